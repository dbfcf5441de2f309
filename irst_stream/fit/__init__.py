"""The fit of the imaging model to a window, and the search for the number of targets. Compiled on its first use."""
