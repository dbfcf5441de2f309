"""A network's answer, or the fit of a window's images, to detections; the choice between them."""
