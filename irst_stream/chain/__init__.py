"""What happens to a frame: its window, where the platform pointed, detections, tracks."""
