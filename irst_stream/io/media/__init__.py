"""Files of frames, one medium a module."""
