"""Methods that learn nothing: iterations on the imaging model, in NumPy, all patches of a batch at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irst_stream.learn.methods.method import register
from irst_stream.optics import SIGMA, FineGrid, line_response
from irst_stream.types import Floats

__all__ = ["CLASSICAL", "Bid", "Ista"]

FAMILY = "classical"
CONVERGED = 1e-4  # DN: a shorter step ends ISTA
BLUR_CELLS = 0.5  # standard deviation of the published deconvolution's kernel


class Classical:
    """Patches (B, h, w) DN to fine maps (B, H, W) DN by iterations with the separable imaging model."""

    def __init__(self, grid: FineGrid) -> None:
        self.grid = grid
        self.rows = line_response(grid.centres[:, 0, 1], grid.patch[0], SIGMA).T
        self.columns = line_response(grid.centres[0, :, 0], grid.patch[1], SIGMA).T
        self.norm_squared = float(np.linalg.norm(self.rows, 2) * np.linalg.norm(self.columns, 2)) ** 2

    def image(self, fine: Floats) -> Floats:
        """Image fine maps (B, H, W) to patches (B, h, w)."""
        return np.asarray(self.rows @ fine @ self.columns.T)

    def adjoint(self, patches: Floats) -> Floats:
        """Spread patches (B, h, w) over the cells that light them, (B, H, W)."""
        return np.asarray(self.rows.T @ patches @ self.columns)

    def gradient_step(self, fine: Floats, patches: Floats) -> Floats:
        """The step of length 1 / ||Phi||^2 towards the data."""
        return fine + self.adjoint(patches - self.image(fine)) / self.norm_squared

    def multiply_adds_a_step(self) -> int:
        """Multiply-adds of the imaging model and its adjoint for one frame."""
        (h, w), (rows, columns) = self.grid.patch, self.grid.shape
        return 2 * (h * rows * columns + h * columns * w)


@register("ista", "ISTA", FAMILY, "none")
class Ista(Classical):
    """Iterative shrinkage from the pseudo-inverse: gradient steps, each with a soft threshold of penalty / ||Phi||^2.

    positive: cells below 0 are set to 0. The penalty, in DN, was the best of 1, 10, 30, 100 and 300 on validation draws.
    """

    threshold = 10.0  # DN, from which a cell is a target: best on validation draws of both sets

    def __init__(self, grid: FineGrid, penalty: float = 10.0, iterations: int = 1000, *, positive: bool = True) -> None:
        super().__init__(grid)
        self.penalty, self.iterations, self.positive = penalty, iterations, positive

    def __call__(self, patches: NDArray[np.floating]) -> NDArray[np.float32]:
        """Compute maps (B, H, W) DN of patches (B, h, w) DN; an empty batch gives an empty one."""
        data, shrink = np.asarray(patches, np.float64), self.penalty / self.norm_squared
        fine = np.linalg.pinv(self.rows) @ data @ np.linalg.pinv(self.columns).T
        active = np.arange(len(data))  # maps that still move
        for _ in range(self.iterations):
            x = fine[active]
            v = self.gradient_step(x, data[active])
            moved = np.maximum(v - shrink, 0) if self.positive else np.sign(v) * np.maximum(np.abs(v) - shrink, 0)
            fine[active] = moved
            active = active[np.sqrt(np.square(moved - x).sum((1, 2))) >= CONVERGED]
            if not len(active):
                break
        return fine.astype(np.float32)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a frame that does not converge early."""
        return self.iterations * self.multiply_adds_a_step()


@register("bid", "BID", FAMILY, "none")
class Bid(Classical):
    """Iterative deconvolution: Landweber's iteration on the imaging model, with no cell below 0.

    published: deblurs the enlarged patch by a narrow kernel instead, as the published toolkit does to an image that it
    does not scramble.
    """

    threshold = 10.0  # DN, from which a cell is a target: best on validation draws of SeqCSIST

    def __init__(self, grid: FineGrid, iterations: int = 3000, *, published: bool = False) -> None:
        super().__init__(grid)
        self.iterations, self.published = iterations, published

    def __call__(self, patches: NDArray[np.floating]) -> NDArray[np.float32]:
        """Compute maps (B, H, W) DN of patches (B, h, w) DN; an empty batch gives an empty one."""
        data = np.asarray(patches, np.float64)
        if self.published:
            return self._deblurred(data)
        fine = np.zeros((len(data), *self.grid.shape))
        for _ in range(self.iterations):
            fine = np.maximum(self.gradient_step(fine, data), 0)
        return fine.astype(np.float32)

    def _deblurred(self, data: Floats) -> NDArray[np.float32]:
        import cv2

        size, taps = self.grid.shape[::-1], cv2.getGaussianKernel(3, BLUR_CELLS)
        start = [cv2.resize(patch, size, interpolation=cv2.INTER_LINEAR) for patch in data]
        maps = []
        for first in start:
            fine = first.copy()
            for _ in range(self.iterations):
                error = cv2.sepFilter2D(fine, -1, taps, taps, borderType=cv2.BORDER_CONSTANT) - first
                if np.abs(error).max() < 0.1:
                    break
                fine -= 0.001 * error
            maps.append(fine)
        return np.array(maps, np.float32).reshape(len(data), *self.grid.shape)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a frame; the published recipe's kernel has nine taps."""
        cells = self.grid.shape[0] * self.grid.shape[1]
        return self.iterations * (10 * cells if self.published else self.multiply_adds_a_step())


CLASSICAL = {"ista": Ista, "bid": Bid}
