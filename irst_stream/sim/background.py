"""Backgrounds behind the targets: dark sky, gradients, drifting 1/f clouds with edges.

A cloud is the sum of two periodic 1/f textures that drift at different speeds, so the pattern evolves as it moves; a
broken cloud has an edge where the faster texture crosses its mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUNDS", "Background", "Sky"]

Image = NDArray[np.float32]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Background:
    """Parameters of a background, in DN and px."""

    level_dn: float = 100.0
    gradient_dn: float = 0.0  # difference between the bottom and the top row of a camera at rest
    cloud_dn: float = 0.0  # rms of the 1/f cloud over one period of its texture, mostly at the largest scales
    cloud_slope: float = 1.5  # amplitude falls as frequency^-slope
    edge_dn: float = 0.0  # step at the edge of a broken cloud
    edge_width_px: float = 3.0
    wind_x_px_s: float = 12.0
    wind_y_px_s: float = 3.0


BACKGROUNDS = {
    "dark": Background(),
    "gradient": Background(level_dn=600.0, gradient_dn=300.0),
    "cloud": Background(level_dn=1500.0, gradient_dn=300.0, cloud_dn=60.0),
    "broken-cloud": Background(level_dn=1500.0, gradient_dn=300.0, cloud_dn=40.0, edge_dn=250.0),
}
"""Ready-made backgrounds by name."""


class Sky:
    """One random background: view() renders it for a time and a camera pose."""

    def __init__(self, background: Background, width: int, height: int, rng: np.random.Generator) -> None:
        self.background = background
        self.size = (width, height)
        self._period = 1 << int(np.ceil(np.log2(1.5 * max(width, height))))
        cloudy = background.cloud_dn or background.edge_dn
        self._layers = [self._texture(rng, edge) for edge in (background.edge_dn, 0.0)] if cloudy else []

    def view(self, time_s: float, shift: tuple[float, float] = (0.0, 0.0), roll_rad: float = 0.0) -> Image:
        """Render (H, W) float32 DN: the background at time_s, seen by a camera of this shift, px, and roll (types.Pose)."""
        image = self._gradient(np.asarray(shift), roll_rad)
        wind = np.array([self.background.wind_x_px_s, self.background.wind_y_px_s])
        for layer, speed in zip(self._layers, (1.0, 0.6), strict=False):
            image += self._sample(layer, wind * speed * time_s, np.asarray(shift), roll_rad)
        return image

    def _gradient(self, shift: Vector, roll_rad: float) -> Image:
        """The level and its gradient, fixed in the world; constant farther than half a frame outside the frame at rest."""
        width, height = self.size
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        columns = -np.sin(roll_rad) * (np.arange(width) - centre[0] - shift[0])
        rows = np.cos(roll_rad) * (np.arange(height) - centre[1] - shift[1])
        share = np.clip((rows[:, None] + columns) / max(height - 1, 1), -1, 1)
        return np.asarray(self.background.level_dn + self.background.gradient_dn * share, np.float32)

    def _sample(self, layer: Image, wind_shift: Vector, shift: Vector, roll_rad: float) -> Image:
        """The part (H, W) of a periodic layer, moved by the wind, that a camera of this pose sees; shifts (2,) px."""
        width, height = self.size
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        c, s = np.cos(roll_rad), np.sin(roll_rad)
        inverse_roll = np.array([[c, s], [-s, c]])
        corner = centre - inverse_roll @ (centre + shift) - wind_shift
        matrix = np.column_stack([inverse_roll, np.mod(corner, self._period)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(layer, matrix, self.size, flags=flags, borderMode=cv2.BORDER_WRAP), np.float32)

    def _texture(self, rng: np.random.Generator, edge_dn: float) -> Image:
        """(period, period) DN: a cloud layer of mean 0, half of the cloud's variance, and a step of edge_dn at its mean."""
        b, size = self.background, self._period
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
        frequency[0, 0] = np.inf
        spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * frequency**-b.cloud_slope
        noise = np.fft.irfft2(spectrum, (size, size))
        noise /= noise.std()
        steepness = 1 / (b.edge_width_px * np.hypot(*np.gradient(noise)).mean())
        step = np.tanh(noise * steepness) / 2
        return np.asarray(b.cloud_dn * noise / np.sqrt(2) + edge_dn * step, np.float32)
