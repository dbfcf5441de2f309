"""Recordings: what a sensor sent and what was made of it, in the MCAP format."""
