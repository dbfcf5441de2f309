"""The one trainer of all methods, with three recipes: single frames, windows, and against a discriminator."""
