"""Calibration of a sensor from its frames alone: PSF, noise, static clutter, thresholds, and the settings that follow."""
