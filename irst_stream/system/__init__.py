"""The machine and the process: GPU and cores, private files, compiled code, latency, and the folders of the package."""
