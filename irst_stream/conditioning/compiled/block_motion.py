"""Motion between two images: Gauss-Newton over blocks, of which those that move otherwise are left out. Compiled."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["align_blocks"]

BLOCK_PX = 16
RIM_PX = 4  # of the image: blurred by its mirrored border
MAX_CHI_SQUARE = 9.0  # times the median: a block with more moves otherwise, see Tukey's biweight
REWEIGHTS = 2
MOVED_PX = 1.0  # a smaller motion is told from rest by no block
CLEARLY = 0.7  # of the squares of the difference: what is less says that a block moves, or that it rests
REST_PX = 0.25  # of what rests: the sensor's own pattern does not move at all
LEAST_MOVING = 0.2  # of the blocks: fewer are an object in the scene
FAINT_PATTERN = 0.2  # a block at rest has at most this share of the light of a moving one; with more it shows the scene
CONVERGED_PX = 0.005
FAINT, STRONG_QUANTILE = 0.05, 0.75  # share of a strong block's light below which a block tells little; which is strong
SUMS = 8  # gxx, gxy, gyy; gx and gy times the difference; squares of the difference, the reference and the image
ZERO, ONE = np.float32(0), np.float32(1)


@compiled
def align_blocks(reference, gx, gy, image, start, noise_slope, roll_sd, iterations):  # type: ignore[no-untyped-def]
    """Find the motion that takes the reference (H, W) to the image (H, W), both float32, NaN where they show nothing.

    gx, gy (H, W): gradients of the reference; start (3,): x, y px and roll, where the search begins; noise_slope: variance
    of the gradient over that of the value, of the images' noise, px^-2; roll_sd: prior of the roll about its start, rad.
    Returns the motion (3,), its covariance (3, 3), the blocks' mean correlation there, the share of blocks that follow
    it, and the mean correlation of the blocks that hold a pattern, without those of a sky. The covariance is infinite where
    the images do not tell, or do not overlap.

    Each block moves by its centre's motion. Blocks that are at rest while enough others move show the sensor's own pattern
    rather than the scene, and count for nothing. Noise in the gradients adds to the normal equations as light would; what
    the residual says of it is taken off, so that a calm sky, or one edge, does not pass for a pattern.
    """
    rows, columns = (reference.shape[0] - 2 * RIM_PX) // BLOCK_PX, (reference.shape[1] - 2 * RIM_PX) // BLOCK_PX
    most = rows * columns
    sums, places, numbers = np.zeros((most, SUMS)), np.empty((most, 2)), np.empty(most, np.int64)
    at_rest = np.zeros((0, SUMS))  # measured as soon as anything moves
    motion, weights = start.copy(), np.ones(most)
    for _ in range(iterations):
        moved = np.hypot(motion[0], motion[1]) > MOVED_PX
        if moved and not len(at_rest):
            blocks = _sum_blocks(reference, gx, gy, image, np.zeros(3), rows, columns, sums, places, numbers)
            at_rest = np.zeros((most, SUMS))
            at_rest[:, 5] = np.inf
            at_rest[numbers[:blocks]] = sums[:blocks]
        blocks = _sum_blocks(reference, gx, gy, image, motion, rows, columns, sums, places, numbers)
        if moved:
            blocks = _without_resting(at_rest, sums, places, numbers, blocks)
        if blocks < 4:
            return motion, np.full((3, 3), np.inf), 0.0, 0.0, 0.0
        weights[:blocks] = ONE
        step = _step(sums[:blocks], places[:blocks], weights[:blocks], motion[2] - start[2], roll_sd)
        motion += step
        if abs(step[0]) + abs(step[1]) < CONVERGED_PX:
            break
    covariance = _covariance(sums[:blocks], places[:blocks], weights[:blocks], noise_slope, roll_sd)
    light = sums[:blocks, 6] + sums[:blocks, 7]
    faint = FAINT * np.quantile(light, STRONG_QUANTILE) + 1e-12
    correlation, used, pattern, weight = 0.0, 0.0, 0.0, 0.0
    for k in range(blocks):
        alike, strong = 1 - sums[k, 5] / max(light[k], 1e-12), light[k] / (light[k] + faint)
        correlation += alike
        used += weights[k] > 0.1
        pattern += strong * alike
        weight += strong
    return motion, covariance, correlation / blocks, used / blocks, pattern / max(weight, 1e-12)


@compiled
def _sum_blocks(reference, gx, gy, image, motion, rows, columns, sums, places, numbers):  # type: ignore[no-untyped-def]
    """Fill sums (N, SUMS), places (N, 2), px from the centre, and numbers (N,) of the blocks inside both without NaN.

    Returns how many these are.
    """
    height, width = reference.shape
    cosine, sine, count = np.cos(motion[2]), np.sin(motion[2]), 0
    for j in range(rows):
        for i in range(columns):
            left, top = RIM_PX + BLOCK_PX * i, RIM_PX + BLOCK_PX * j
            x, y = left + 0.5 * (BLOCK_PX - width), top + 0.5 * (BLOCK_PX - height)
            along, down = cosine * x - sine * y - x + motion[0], sine * x + cosine * y - y + motion[1]
            dx, dy = int(np.floor(along)), int(np.floor(down))
            inside = left + dx >= 0 and left + dx + BLOCK_PX < width and top + dy >= 0 and top + dy + BLOCK_PX < height
            if inside:
                u, v = np.float32(along - dx), np.float32(down - dy)
                _sum_block(reference, gx, gy, image, left, top, dx, dy, u, v, sums[count])
                places[count, 0], places[count, 1], numbers[count] = x, y, j * columns + i
                count += not np.isnan(sums[count].sum())
    return count


@compiled
def _without_resting(at_rest, sums, places, numbers, blocks):  # type: ignore[no-untyped-def]
    """Take the blocks that are at rest out of sums, places and numbers if enough others move; return how many are left.

    at_rest (B, SUMS): the sums of all blocks, by their numbers, where nothing has moved. All blocks are kept where
    those at rest are not much fainter than those that move, or move a little: they show the scene, and what moves is an
    object in it.
    """
    moving, moving_light, resting, resting_light = 0, 0.0, 0, 0.0
    left, normal, right = 0, np.zeros((2, 2)), np.zeros(2)
    for k in range(blocks):
        still, light = at_rest[numbers[k]], sums[k, 6] + sums[k, 7]
        if sums[k, 5] < CLEARLY * still[5]:
            moving, moving_light = moving + 1, moving_light + light
        if still[5] < CLEARLY * sums[k, 5]:
            resting, resting_light, scale = resting + 1, resting_light + light, 1 / max(still[5], 1e-12)
            normal += scale * np.array([[still[0], still[1]], [still[1], still[2]]])
            right += scale * np.array([still[3], still[4]])
    if moving < LEAST_MOVING * blocks or resting_light * moving > FAINT_PATTERN * moving_light * resting:
        return blocks
    determinant = normal[0, 0] * normal[1, 1] - normal[0, 1] * normal[1, 0]
    if determinant <= 0 or np.abs(np.linalg.solve(normal, right)).max() > REST_PX:
        return blocks
    for k in range(blocks):
        if at_rest[numbers[k], 5] >= CLEARLY * sums[k, 5]:
            sums[left], places[left], numbers[left] = sums[k], places[k], numbers[k]
            left += 1
    return left


@compiled
def _sum_block(reference, gx, gy, image, left, top, dx, dy, u, v, out):  # type: ignore[no-untyped-def]
    """Fill out (SUMS,) with the sums over one block; the image is read at whole px dx, dy and the fractions u, v."""
    xx, xy, yy, xd, yd, dd, rr, ii = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    a, b, c, d = (ONE - u) * (ONE - v), u * (ONE - v), (ONE - u) * v, u * v
    for r in range(top, top + BLOCK_PX):
        upper, lower = (
            image[r + dy, left + dx : left + dx + BLOCK_PX + 1],
            image[r + dy + 1, left + dx : left + dx + BLOCK_PX + 1],
        )
        known, p, q = reference[r, left : left + BLOCK_PX], gx[r, left : left + BLOCK_PX], gy[r, left : left + BLOCK_PX]
        for k in range(BLOCK_PX):
            value = a * upper[k] + b * upper[k + 1] + c * lower[k] + d * lower[k + 1]
            off = known[k] - value
            xx += p[k] * p[k]
            xy += p[k] * q[k]
            yy += q[k] * q[k]
            xd += p[k] * off
            yd += q[k] * off
            dd += off * off
            rr += known[k] * known[k]
            ii += value * value
    out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = xx, xy, yy, xd, yd, dd, rr, ii


@compiled
def _step(sums, places, weights, roll_off, roll_sd):  # type: ignore[no-untyped-def]
    """Return the Gauss-Newton step (3,), zero where the blocks tell nothing, and fill weights (N,), 0 to 1."""
    typical, step, chi = max(np.median(sums[:, 5]), 1e-12), np.zeros(3), np.empty(len(sums))
    for _ in range(REWEIGHTS):
        normal, right = _prior(roll_off, roll_sd)
        for k in range(len(sums)):
            scale = weights[k] / max(sums[k, 5], 0.5 * typical)
            _add_block(sums[k], places[k], scale, 0.0, normal, right)
        if not _is_positive(normal):
            return np.zeros(3)
        step = np.linalg.solve(normal, right)
        for k in range(len(sums)):
            chi[k] = _chi_square(sums[k], places[k], typical, step)
        limit = MAX_CHI_SQUARE * max(np.median(chi), 1e-12)
        for k in range(len(sums)):
            weights[k] = max(1 - chi[k] / limit, 0.0) ** 2
    return step


@compiled
def _prior(roll_off, roll_sd):  # type: ignore[no-untyped-def]
    """Return the normal equations, (3, 3) and (3,), that hold the prior of the roll alone, which is roll_off from it."""
    normal, right = np.zeros((3, 3)), np.zeros(3)
    normal[2, 2], right[2] = 1 / (roll_sd * roll_sd), -roll_off / (roll_sd * roll_sd)
    return normal, right


@compiled
def _covariance(sums, places, weights, noise_slope, roll_sd):  # type: ignore[no-untyped-def]
    """Return the motion's covariance (3, 3) from how the blocks' residuals scatter; infinite where they tell nothing."""
    typical, spread = max(np.median(sums[:, 5]), 1e-12), np.zeros((3, 3))
    normal, _ = _prior(0.0, roll_sd)
    for k in range(len(sums)):
        scale, gradient = weights[k] / max(sums[k, 5], 0.5 * typical), np.zeros(3)
        noise = 0.5 * sums[k, 5] * noise_slope  # both images have noise, the gradients that of one
        _add_block(sums[k], places[k], scale, noise, normal, gradient)
        for m in range(3):
            for n in range(3):
                spread[m, n] += gradient[m] * gradient[n]
    if not _is_positive(normal):
        return np.full((3, 3), np.inf)
    inverse = np.linalg.inv(normal)
    return inverse @ spread @ inverse


@compiled
def _add_block(sums, place, scale, noise, normal, right):  # type: ignore[no-untyped-def]
    """Add one block, times a scale, to the normal equations (3, 3) and (3,); noise is taken off its squared gradients."""
    xx, xy, yy, x, y = sums[0] - noise, sums[1], sums[2] - noise, place[0], place[1]
    jx, jy = (1.0, 0.0, -y), (0.0, 1.0, x)  # of the block's shift, by each part of the motion
    for m in range(3):
        fx, fy = xx * jx[m] + xy * jy[m], xy * jx[m] + yy * jy[m]
        right[m] += scale * (jx[m] * sums[3] + jy[m] * sums[4])
        for n in range(3):
            normal[m, n] += scale * (fx * jx[n] + fy * jy[n])


@compiled
def _chi_square(sums, place, typical, step):  # type: ignore[no-untyped-def]
    """Return how badly one block follows a step (3,): its residual gradient in units of the residual light's."""
    x, y = place[0], place[1]
    ex = sums[3] - (sums[0] * (step[0] - y * step[2]) + sums[1] * (step[1] + x * step[2]))
    ey = sums[4] - (sums[1] * (step[0] - y * step[2]) + sums[2] * (step[1] + x * step[2]))
    ridge = 1e-3 * (sums[0] + sums[2]) + 1e-12
    xx, yy = sums[0] + ridge, sums[2] + ridge
    determinant = xx * yy - sums[1] * sums[1]
    return (yy * ex * ex - 2 * sums[1] * ex * ey + xx * ey * ey) / determinant / max(sums[5], 0.5 * typical)


@compiled
def _is_positive(normal):  # type: ignore[no-untyped-def]
    """Tell whether a symmetric (3, 3) matrix is positive definite."""
    two = normal[0, 0] * normal[1, 1] - normal[0, 1] * normal[1, 0]
    return normal[0, 0] > 0 and two > 0 and np.linalg.det(normal) > 0
