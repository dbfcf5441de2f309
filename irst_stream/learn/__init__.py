"""The network in PyTorch, for training, import and export; no other part of the package imports torch."""
