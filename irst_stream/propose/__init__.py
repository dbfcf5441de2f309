"""Where in a full frame a group of targets may be."""
