"""The filters' responses to a frame, the peaks of a response, and how strong each peak is. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.propose.compiled.cell_grid import ONE, ZERO
from irst_stream.propose.compiled.frames import abs_snr_at
from irst_stream.system.numba_cache import compiled

__all__ = [
    "FILTER_RADIUS",
    "SD_PER_MEAN_ABS",
    "apply_filter",
    "apply_kernel",
    "clamp_index",
    "is_dark_rim",
    "local_maxima",
    "peak_strengths",
]

FILTER_RADIUS = 3  # px: the largest kernel is 7 x 7
SD_PER_MEAN_ABS = np.float32(1.2533)  # a Gaussian's standard deviation over its mean absolute deviation
RING_MARGIN = np.float32(1.2)  # a ring of 72 pixels of pure noise seldom exceeds the noise by more
RING_LIMIT = np.float32(4)  # each ring pixel counts at most this much noise, so that a neighbouring group hides none
RIM_RATIO = np.float32(1.5)  # a dip near a peak this many times its depth may be the filter's dark rim


@compiled
def apply_filter(light, weights, row_taps, column_taps, response):  # type: ignore[no-untyped-def]
    """Fill response (H, W) with light (H, W), mirrored at its borders, filtered by a sum of separable kernels.

    Kernel k is weights[k] times the outer product of row_taps[k] and column_taps[k]. weights (K,): K is even, since two
    kernels share each read of the frame; taps (K, FILTER_RADIUS + 1): one half of a symmetric filter, from its centre
    outwards.
    """
    width = light.shape[1]
    one, other = np.empty(width + 2 * FILTER_RADIUS, np.float32), np.empty(width + 2 * FILTER_RADIUS, np.float32)
    end = FILTER_RADIUS + width
    for r in range(len(light)):
        response[r] = ZERO
        for k in range(0, len(weights), 2):
            _filter_columns(light, r, row_taps[k], row_taps[k + 1], one[FILTER_RADIUS:end], other[FILTER_RADIUS:end])
            _mirror_ends(one)
            _mirror_ends(other)
            _add_filtered_rows(one, weights[k], column_taps[k], other, weights[k + 1], column_taps[k + 1], response[r])


@compiled
def apply_kernel(light, kernel, response):  # type: ignore[no-untyped-def]
    """Fill response (H, W) with light (H, W), mirrored at its borders, filtered by a kernel (S, S).

    S = 2 FILTER_RADIUS + 1. A pixel's response is the sum of its surroundings, each times the kernel's value at its place.
    """
    height, width = light.shape
    side = 2 * FILTER_RADIUS + 1
    padded = np.empty((side, width + 2 * FILTER_RADIUS), np.float32)  # row s of the frame is in row s % side
    for r in range(-FILTER_RADIUS, height):
        source = r + FILTER_RADIUS
        if source < height:
            padded[source % side, FILTER_RADIUS : FILTER_RADIUS + width] = light[source]
            _mirror_ends(padded[source % side])
        if r < 0:
            continue
        response[r] = ZERO
        for i in range(side):
            seen = _mirror_row(abs(r + i - FILTER_RADIUS), height)
            _add_kernel_row(padded[seen % side], kernel[i], response[r])


@compiled
def _add_kernel_row(padded, k, row):  # type: ignore[no-untyped-def]
    """Add to row (W,) the padded row (W + 2 FILTER_RADIUS,) filtered by a kernel's row k (2 FILTER_RADIUS + 1,)."""
    k0, k1, k2, k3, k4, k5, k6 = k[0], k[1], k[2], k[3], k[4], k[5], k[6]
    for c in range(len(row)):
        left = k0 * padded[c] + k1 * padded[c + 1] + k2 * padded[c + 2] + k3 * padded[c + 3]
        row[c] += left + k4 * padded[c + 4] + k5 * padded[c + 5] + k6 * padded[c + 6]


@compiled
def _filter_columns(light, r, s, t, one, other):  # type: ignore[no-untyped-def]
    """Fill one (W,) and other (W,) with row r of the frame, filtered down the columns by the taps s and t."""
    height = len(light)
    s0, s1, s2, s3 = s[0], s[1], s[2], s[3]
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    centre, above_1, above_2, above_3 = light[r], light[abs(r - 1)], light[abs(r - 2)], light[abs(r - 3)]
    below_1, below_2 = light[_mirror_row(r + 1, height)], light[_mirror_row(r + 2, height)]
    below_3 = light[_mirror_row(r + 3, height)]
    for c in range(len(one)):
        p0, p1, p2, p3 = centre[c], above_1[c] + below_1[c], above_2[c] + below_2[c], above_3[c] + below_3[c]
        one[c] = s0 * p0 + s1 * p1 + s2 * p2 + s3 * p3
        other[c] = t0 * p0 + t1 * p1 + t2 * p2 + t3 * p3


@compiled
def _add_filtered_rows(one, v, s, other, w, t, row):  # type: ignore[no-untyped-def]
    """Add to row (W,): v times one (W + 2 FILTER_RADIUS,) filtered by the taps s, and w times other filtered by t."""
    s0, s1, s2, s3 = v * s[0], v * s[1], v * s[2], v * s[3]
    t0, t1, t2, t3 = w * t[0], w * t[1], w * t[2], w * t[3]
    for c in range(len(row)):
        first = (
            s0 * one[c + 3] + s1 * (one[c + 2] + one[c + 4]) + s2 * (one[c + 1] + one[c + 5]) + s3 * (one[c] + one[c + 6])
        )
        second = t0 * other[c + 3] + t1 * (other[c + 2] + other[c + 4])
        row[c] += first + second + t2 * (other[c + 1] + other[c + 5]) + t3 * (other[c] + other[c + 6])


@compiled
def _mirror_ends(padded):  # type: ignore[no-untyped-def]
    """Fill the FILTER_RADIUS values at either end of a padded row with their mirror images."""
    last = len(padded) - 1
    for i in range(FILTER_RADIUS):
        padded[i] = padded[2 * FILTER_RADIUS - i]
        padded[last - i] = padded[last - 2 * FILTER_RADIUS + i]


@compiled
def _mirror_row(r, height):  # type: ignore[no-untyped-def]
    """Return the row that stands for row r where r lies below the frame; r itself inside."""
    return r if r < height else 2 * (height - 1) - r


@compiled
def local_maxima(response, noise, rows, indices):  # type: ignore[no-untyped-def]
    """Select the pixels that none exceeds within 2 px along either axis; return flat indices and |response| / noise, (K,).

    indices (N,): the flat indices to choose from; noise: an expanded map.
    """
    width = response.shape[1]
    kept, snrs, count = np.empty(len(indices), np.int64), np.empty(len(indices), np.float32), 0
    for at in indices:
        r, c = at // width, at % width
        snr = abs_snr_at(response, noise, rows, r, c)
        if _is_local_maximum(response, noise, rows, r, c, snr):
            kept[count], snrs[count] = at, snr
            count += 1
    return kept[:count], snrs[:count]


@compiled
def _is_local_maximum(response, noise, rows, r, c, snr):  # type: ignore[no-untyped-def]
    height, width = response.shape
    for y in range(max(r - 2, 0), min(r + 3, height)):
        for x in range(max(c - 2, 0), min(c + 3, width)):
            if abs_snr_at(response, noise, rows, y, x) > snr:
                return False
    return True


@compiled
def clamp_index(k, length):  # type: ignore[no-untyped-def]
    return min(max(k, 0), length - 1)


@compiled
def peak_strengths(response, noise, rows, indices, snrs):  # type: ignore[no-untyped-def]
    """Return each peak's strength (K,): its SNR over the noise map or, where that is louder, over the 72 px ring about it.

    indices (K,): the peaks' flat indices; snrs (K,): |response| / noise there.
    """
    height, width = response.shape
    found = np.empty(len(indices), np.float64)
    for k in range(len(indices)):
        r, c, total = indices[k] // width, indices[k] % width, ZERO
        for y in range(-8, 9, 2):
            for x in range(-8, 9, 2):
                if max(abs(y), abs(x)) >= 4:
                    snr = abs_snr_at(response, noise, rows, clamp_index(r + y, height), clamp_index(c + x, width))
                    total += min(snr, RING_LIMIT)
        found[k] = snrs[k] / max(ONE, SD_PER_MEAN_ABS * total / np.float32(72) / RING_MARGIN)
    return found


@compiled
def is_dark_rim(response, indices):  # type: ignore[no-untyped-def]
    """Tell which dips (K,) may only be the dark rim that a filter draws around something bright."""
    height, width = response.shape
    found = np.empty(len(indices), np.bool_)
    for k in range(len(indices)):
        r, c, brightest = indices[k] // width, indices[k] % width, ZERO
        for y in range(-6, 7, 2):
            for x in range(-6, 7, 2):
                brightest = max(brightest, response[clamp_index(r + y, height), clamp_index(c + x, width)])
        found[k] = brightest > -RIM_RATIO * response[r, c]
    return found
