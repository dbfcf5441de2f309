"""The fit of the imaging model to a window, with selection of the number of targets. Compiled on first use."""
