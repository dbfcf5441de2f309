"""What happens to a frame: windows, platform poses, detections, tracks."""
