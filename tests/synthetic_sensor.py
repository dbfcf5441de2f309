"""Frames of a sensor whose PSF, noise, gain, pattern, bad pixels and burnt-in text are known."""

from dataclasses import dataclass

import cv2
import numpy as np

from irst_stream import Frame, Stamp
from irst_stream.optics import render

SHAPE = (128, 160)
FULL_SCALE = 16383.0
TEXT = "FRAME"


@dataclass(frozen=True)
class Sensor:
    """What is to be recovered. gain: DN^2 a DN; read, pattern: DN; sigma: px; speed: px a frame; rate_hz: frames/s."""

    sigma: float = 0.8
    gain: float = 0.5
    read: float = 6.0
    pattern: float = 10.0
    text: bool = False
    bad: tuple[tuple[int, int], ...] = ()
    targets: int = 8
    amplitude: float = 9000.0
    speed: float = 0.25
    rate_hz: float = 40.0

    def frames(self, count=120, seed=0, name="cam", shape=SHAPE):
        """The frames, uint16: a slope of sky from 400 to 2400 DN, targets in straight motion, shot and read noise."""
        rng = np.random.default_rng(seed)
        sky = np.linspace(400, 2400, shape[0])[:, None] + np.zeros(shape)
        fixed = rng.normal(0, self.pattern, shape)
        start = np.stack(
            [rng.uniform(15, shape[1] - 15, self.targets), np.linspace(28, shape[0] - 12, self.targets)], axis=1
        )
        velocity = np.stack([rng.choice([-1, 1], self.targets) * self.speed, np.zeros(self.targets)], axis=1)
        for k in range(count):
            light = sky + fixed
            light += render(start + velocity * k, np.full(self.targets, self.amplitude), shape, self.sigma)
            noisy = light + rng.normal(0, np.sqrt(self.read**2 + self.gain * np.maximum(light, 0)))
            pixels = np.clip(np.rint(noisy), 0, FULL_SCALE).astype(np.uint16)
            for x, y in self.bad:
                pixels[y, x] = 0
            if self.text:
                cv2_text(pixels, f"{TEXT} {1000 + 7 * k}", 6, 14)
            yield Frame(Stamp(name, 0, k, round(k * 1e9 / self.rate_hz)), pixels, FULL_SCALE)

    def stack(self, count=120, seed=0):
        return np.stack([frame.pixels for frame in self.frames(count, seed)])


def cv2_text(pixels, text, x, y):
    """Write text in full white into an image (H, W) uint16."""
    ink = np.zeros(pixels.shape, np.uint8)
    cv2.putText(ink, text, (x, y), cv2.FONT_HERSHEY_PLAIN, 0.8, 1, 1)
    pixels[ink > 0] = int(FULL_SCALE)
