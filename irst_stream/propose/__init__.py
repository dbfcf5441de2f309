"""The region search: finds where in a full frame a group of targets may be."""
