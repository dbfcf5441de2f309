"""The machine at hand: its GPU and cores, private files, compiled code, latency, and the folders shipped with it."""
