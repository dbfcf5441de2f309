"""The page on which people watch a pipeline, or look at a recording: its HTTP routes, its feeds of frames, its files."""
