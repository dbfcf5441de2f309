"""Recordings in the MCAP format: raw frames, detections, tracks and the configuration."""
