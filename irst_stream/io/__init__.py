"""Files, recordings, live feeds and the interchange format: both directions of each in one place."""
