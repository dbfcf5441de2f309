"""Sensor model: shot noise, read noise, fixed-pattern noise, bad pixels, digitisation and saturation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.optics import SIGMA
from irst_stream.types import Pixels

__all__ = ["Detector", "Sensor", "digitise"]


def digitise(image: NDArray[np.float32], bits: int, ceiling: int | None = None) -> Pixels:
    """Round an image (...) DN to whole DN, clipped to 0 and to the ceiling: uint8 for up to 8 bits, else uint16.

    ceiling: DN at which the sensor saturates; None for the converter's full scale, 2^bits - 1, which also limits it.
    """
    if not 1 <= bits <= 16:
        raise UsageError(f"depth: expected 1 to 16 bits, got {bits}")
    top = 2**bits - 1 if ceiling is None else min(ceiling, 2**bits - 1)
    whole = np.rint(np.clip(image, 0, top))
    return whole.astype(np.uint8 if bits <= 8 else np.uint16)


@dataclass(frozen=True)
class Sensor:
    """Parameters of a camera: size, optics, noise and defects."""

    width: int = 640
    height: int = 512
    bits: int = 14
    rate_hz: float = 100.0
    sigma_px: float = SIGMA  # standard deviation of the PSF; of an elliptical one, the geometric mean of both axes
    axis_ratio: float = 1.0  # longer over shorter axis of the PSF
    axis_angle_deg: float = 0.0  # direction of the longer axis, from x towards y (down)
    psf_table: str = ""  # a PSF that irst-stream calibrate measured, a .npz file, in place of the three above
    read_noise_dn: float = 4.0
    electrons_per_dn: float = 10.0  # gain: the variance of shot noise is signal / electrons_per_dn; 0 for no shot noise
    gain_spread: float = 0.002  # fixed-pattern noise: rms of the pixels' relative gains
    offset_spread_dn: float = 1.0  # fixed-pattern noise: rms of the pixels' offsets
    column_spread_dn: float = 0.5  # fixed-pattern noise: rms of the columns' offsets
    dead_fraction: float = 1e-5  # share of pixels that read 0
    hot_fraction: float = 1e-5  # share of pixels that read full scale

    @property
    def ceiling(self) -> int:
        """Full scale, DN."""
        return int(2**self.bits - 1)

    def noise_dn(self, level_dn: float) -> float:
        """Temporal noise, DN: the standard deviation over time of a pixel at a signal level, DN."""
        shot = level_dn / self.electrons_per_dn if self.electrons_per_dn else 0.0
        return float(np.sqrt(self.read_noise_dn**2 + max(shot, 0.0)))


class Detector:
    """One sensor with its own fixed-pattern noise and bad pixels, drawn once; expose() adds temporal noise to each frame.

    Shot noise is drawn from a Gaussian with the signal's variance, which is accurate enough above some 20 electrons.
    """

    def __init__(self, sensor: Sensor, rng: np.random.Generator) -> None:
        shape = (sensor.height, sensor.width)
        self.sensor = sensor
        self.gain = (1 + sensor.gain_spread * rng.standard_normal(shape)).astype(np.float32)
        columns = sensor.column_spread_dn * rng.standard_normal(sensor.width)
        self.offset = (sensor.offset_spread_dn * rng.standard_normal(shape) + columns).astype(np.float32)
        draw = rng.random(shape)
        self.dead: NDArray[np.bool_] = draw < sensor.dead_fraction
        self.hot: NDArray[np.bool_] = draw > 1 - sensor.hot_fraction

    def expose(self, light: NDArray[np.float32], rng: np.random.Generator) -> Pixels:
        """Turn incoming light (H, W) float32 DN into the frame (H, W) that is read out; rng draws the temporal noise."""
        sensor = self.sensor
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        if sensor.electrons_per_dn:
            variance = np.maximum(light, 0) * np.float32(1 / sensor.electrons_per_dn) + np.float32(sensor.read_noise_dn**2)
            noise *= np.sqrt(variance, out=variance)
        else:
            noise *= np.float32(sensor.read_noise_dn)
        frame = digitise(self.gain * light + self.offset + noise, sensor.bits)
        frame[self.dead] = 0
        frame[self.hot] = sensor.ceiling
        return frame
