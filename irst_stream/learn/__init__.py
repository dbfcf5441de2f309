"""The network in PyTorch: the only place that imports torch, and only for training, import and export."""
