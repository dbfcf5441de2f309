"""From a network's output, or the fit of a window's images, to detections."""
