"""The compiled search agrees with a plain reference that works step by step over whole frames, in NumPy and OpenCV."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from irst_stream.optics import SIGMA, psf, render
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.propose.compiled import OUTLIER_SIGMAS
from irst_stream.propose.filters import background_free_matched_filter
from irst_stream.propose.noise import NOISE_CELL_PX
from irst_stream.propose.preparation import CELL_PX, MIN_NOISE, QUANTISATION_SD
from irst_stream.propose.prepared_frame import cut_regions
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Frame, Stamp

SHAPES = [(65, 65), (67, 131), (96, 128), (300, 257), (11, 100), (90, 12)]
SETTINGS = ProposeSettings(false_alarms=0.5)


def sky(shape, dtype, seed):
    """Make a frame of noise on a slope, with targets, a hot, a dead and a saturated pixel."""
    rng = np.random.default_rng(seed)
    height, width = shape
    xy = np.stack([rng.uniform(2, width - 3, 6), rng.uniform(2, height - 3, 6)], axis=-1)
    image = rng.normal(100, 4, shape) + np.linspace(0, 30, width) + render(xy, rng.uniform(60, 400, 6), shape)
    image[height // 2, width // 3], image[height // 3, width // 2], image[2, 2] = 240, 0, 1e9
    if dtype == np.float32:
        return image.astype(np.float32)
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


def with_holes(frame, seed):
    """Replace some pixels, some rows and a block by NaN or infinity."""
    rng = np.random.default_rng(seed)
    holes = rng.random(frame.shape) < 0.01
    holes[4], holes[10:50, 5:45] = True, True
    frame[holes] = rng.choice([np.nan, np.inf, -np.inf], holes.sum())
    return frame


FRAMES = {
    **{f"{np.dtype(t).name} {s}": sky(s, t, k) for k, s in enumerate(SHAPES) for t in (np.uint8, np.uint16, np.float32)},
    **{f"holes {s}": with_holes(sky(s, np.float32, k), k) for k, s in enumerate(SHAPES)},
    "nothing": np.full((70, 90), np.nan, np.float32),
    "dark": np.zeros((70, 90), np.uint16),
    "saturated": np.full((70, 90), 65535, np.uint16),
    "below zero": sky((70, 90), np.float32, 9) - 1000,
    "half saturated": np.where(np.arange(90) < 45, 65535, sky((70, 90), np.uint16, 9)).astype(np.uint16),
}


def plain_noise(image, good):
    """The noise map, from every other row."""
    height = max(round(len(image) / NOISE_CELL_PX), 1)
    cells = (max(round(image.shape[1] / NOISE_CELL_PX), 1), height)
    size, share = (cv2.resize(part[::2], cells, interpolation=cv2.INTER_AREA) for part in (np.abs(image), good))
    means = plain_filled(size, share if (good == 0).any() else None)
    return cv2.medianBlur(means, 5) * np.float32(1.2533)


def plain_filled(means, share):
    if share is None:
        return means
    empty = share < 0.05
    means = means / np.where(empty, np.float32(1), share)
    if empty.any() and not empty.all():
        means = means[tuple(distance_transform_edt(empty, return_distances=False, return_indices=True))]
    return means


def spread(coarse, shape):
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


def sampled(image, at, offsets):
    """The values (K, N) at offsets from flat indices; border pixels are repeated."""
    rows, columns = np.divmod(at[:, None], image.shape[1])
    y, x = np.array(offsets).T
    return image[np.clip(rows + y, 0, image.shape[0] - 1), np.clip(columns + x, 0, image.shape[1] - 1)]


def square(reach, step, inner=0):
    along = range(-reach, reach + 1, step)
    return [(y, x) for y in along for x in along if max(abs(y), abs(x)) >= inner]


def plain_prepare(pixels):
    """The light, background, noise map and least noise of a first frame."""
    image = pixels.astype(np.float32)
    good = np.isfinite(image).astype(np.float32)
    image[good == 0] = 0
    cells = max(round(image.shape[1] / CELL_PX), 1), max(round(image.shape[0] / CELL_PX), 1)
    means, share = (cv2.resize(part, cells, interpolation=cv2.INTER_AREA) for part in (image, good))
    background = cv2.medianBlur(plain_filled(means, share if (good == 0).any() else None), 5)
    light = (image - spread(background, image.shape)) * good
    noise = plain_noise(light, good)
    least = QUANTISATION_SD if pixels.dtype != np.float32 else max(1e-6 * background.max(), MIN_NOISE)
    noise = np.maximum(noise, np.float32(least))
    light[good == 0] = np.nan
    level = spread(noise, image.shape).ravel()
    at = np.flatnonzero(np.abs(light.ravel()) > OUTLIER_SIGMAS * level)
    deficit = plain_deficit(light, at, level[at])
    light.ravel()[at[deficit > np.where(light.ravel()[at] > 0, 3.5, 1.5)]] = np.nan
    return light, background, noise, least


def plain_deficit(light, at, level):
    value, share = light.ravel()[at], float(np.divide(*psf(np.array([1.0, 1.0]), (3, 3), SIGMA)[1, :2]))

    def deficit(base):
        neighbours = np.sign(value)[:, None] * (sampled(light, at, [(-1, 0), (1, 0), (0, -1), (0, 1)]) - base[:, None])
        usable = np.where(neighbours > -OUTLIER_SIGMAS * level[:, None], neighbours, np.inf)
        pair = np.minimum(usable[:, 0] + usable[:, 1], usable[:, 2] + usable[:, 3])
        pair[np.isinf(pair)] = 0
        return (share * np.abs(value - base) - pair) / (np.sqrt(2) * level) - 1 / np.sqrt(np.pi)

    around = np.nan_to_num(sampled(light, at, square(2, 1, 2))).mean(axis=1)
    over_background, over_surroundings = deficit(np.zeros_like(value)), deficit(around)
    second = np.where((value - around) * value > 0, over_surroundings, -1)
    return np.where(over_background > 0.25, np.minimum(over_background, second), over_background)


def plain_filter(size, order):
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + size // 2
    image = psf(places, (size, size), SIGMA).mean(axis=(0, 1)).ravel()
    y, x = np.indices((size, size)).reshape(2, -1) - size // 2
    base = np.linalg.qr(np.stack([x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)], 1).astype(float))[0]
    residual = image - base @ (base.T @ image)
    return (residual / np.linalg.norm(residual)).reshape(size, size).astype(np.float32)


def plain_search(light, kernel, least, threshold, good):
    """Flat indices of peaks and dips, the strength of each, whether it rises and whether it may be a dark rim."""
    response = cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    size = np.abs(response) / spread(np.maximum(plain_noise(response, good), np.float32(least)), light.shape)
    at = np.flatnonzero((size > threshold) & (size >= cv2.dilate(size, np.ones((5, 5), np.uint8))))
    ring = 1.2533 * np.minimum(sampled(size, at, square(8, 2, 4)), 4).mean(axis=1)
    brightest = sampled(response, at, square(6, 2)).max(axis=1, initial=0)
    strength = size.ravel()[at] / np.maximum(1, ring / 1.2)
    return at, strength, response.ravel()[at] > 0, brightest > -1.5 * response.ravel()[at]


def test_no_frame_waits_for_a_compiler():
    """Runs in a child process: in this one, other tests may have compiled the kernels already."""
    code = """
import numpy as np
from irst_stream.build import PARTS
from irst_stream.propose import compiled
from irst_stream.types import Frame, Stamp
from irst_stream.chain.window import WindowBuilder
kernels = [getattr(compiled, name) for name in compiled.__all__ if hasattr(getattr(compiled, name), "signatures")]
for part in PARTS:
    part.warm_up()
known = [len(kernel.signatures) for kernel in kernels]
rng = np.random.default_rng(0)
for dtype in (np.uint8, np.uint16, np.float32):
    for count in (0, 1, 7):
        pixels = rng.normal(100, 4, (12, 130)).astype(dtype)
        pixels[5:7, 10 : 10 + 12 * count : 12] = pixels[5:7, 11 : 11 + 12 * count : 12] = 200
        pixels[:, 120:] = 0 if dtype != np.float32 else np.nan
        windows = [WindowBuilder(length) for length in (1, 5)]
        for index in range(7):
            for each in windows:
                each.push(Frame(Stamp(f"{count} {dtype}", 0, index, index), pixels))
assert known == [len(kernel.signatures) for kernel in kernels], "a frame caused a compilation"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", FRAMES)
def test_a_prepared_frame_equals_the_reference(name):
    pixels = FRAMES[name]
    found = Proposer(SETTINGS, pixels.shape).prepare(pixels)
    light, background, noise, least = plain_prepare(pixels)
    rounding = 1e-6 * max(float(np.abs(background).max()), 1)
    np.testing.assert_allclose(found.background, background, rtol=1e-6, atol=rounding)
    np.testing.assert_allclose(found.light, light, rtol=1e-5, atol=4 * rounding)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-4, atol=rounding)
    assert found.min_noise == pytest.approx(least)


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("name", FRAMES)
def test_a_filters_peaks_equal_the_reference(name, tight):
    pixels = FRAMES[name]
    proposer = Proposer(SETTINGS, pixels.shape)
    prepared = proposer.prepare(pixels)
    light, share = proposer._average(prepared, [])
    bad = np.isnan(prepared.light)
    np.testing.assert_array_equal(light, np.where(bad, 0, prepared.light))
    good = np.ones(bad.shape, np.float32) - bad if bad.mean() > 0.01 else np.ones(bad.shape, np.float32)
    seen = proposer._search(light, int(tight), prepared.min_noise, share)
    kernel = plain_filter(5, 2) if tight else plain_filter(7, 0)
    at, strength, rises, rim = plain_search(light, kernel, prepared.min_noise, proposer._threshold, good)
    rows, columns = np.divmod(at[rises], pixels.shape[1])
    np.testing.assert_array_equal(seen.xy, np.stack([columns, rows], axis=-1))
    np.testing.assert_allclose(seen.strength, strength[rises], rtol=1e-4)
    dips = strength[~rises & ~rim]
    np.testing.assert_allclose(seen.dips, dips[dips > proposer._threshold], rtol=1e-4)


PSFS = {
    "sharp": gaussian(0.2),
    "round": gaussian(SIGMA),
    "wide": gaussian(2.0),
    "along an axis": gaussian(0.8, 1.6, 90.0),
    "rotated": gaussian(0.8, 1.6, 35.0),
    "table": tabulated(gaussian(0.7, 1.4, 120.0).table, 8),
}


@pytest.mark.parametrize("kind", PSFS)
@pytest.mark.parametrize(("size", "order"), [(7, 0), (5, 2)])
def test_a_filter_is_blind_to_polynomials(kind, size, order):
    shape = (40, 50)
    y, x = np.indices(shape) - 20.0
    for i in range(order + 1):
        for j in range(order + 1 - i):
            light, response = (x**i * y**j).astype(np.float32), np.empty(shape, np.float32)
            background_free_matched_filter(PSFS[kind], size, order).fill(light, response)
            assert np.abs(response[3:-3, 3:-3]).max() < 1e-5 * np.abs(light).max()


@pytest.mark.parametrize("kind", PSFS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_filter_is_matched_to_the_image_of_a_target(kind, shape):
    places = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 11)]), axis=-1) + 3
    kernel = PSFS[kind].images(places, (7, 7)).mean(axis=(0, 1))
    kernel = (kernel - kernel.mean()) / np.linalg.norm(kernel - kernel.mean())
    light = np.random.default_rng(2).normal(0, 10, shape).astype(np.float32)
    response = np.empty(shape, np.float32)
    background_free_matched_filter(PSFS[kind], 7, 0).fill(light, response)
    expected = cv2.filter2D(light, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(response, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("kind", "gain"), [("along an axis", 1.02), ("rotated", 1.02), ("table", 1.005)])
def test_a_filter_of_the_real_psf_sees_fainter_targets(kind, gain):
    psf = PSFS[kind]
    filters = [background_free_matched_filter(own, 7, 0) for own in (psf, gaussian(psf.sigma))]
    strengths = np.zeros((2, 20))
    for k, offset in enumerate(np.random.default_rng(3).uniform(-0.5, 0.5, (20, 2))):
        light, response = psf.images(7 + offset, (15, 15)).astype(np.float32), np.empty((15, 15), np.float32)
        for which, own in enumerate(filters):
            own.fill(light, response)
            strengths[which, k] = response.max()  # over white noise of 1, as filters have unit norm
    assert strengths[0].mean() > gain * strengths[1].mean()


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_the_mean_of_frames_is_zero_where_any_is_bad(frames):
    proposer = Proposer(SETTINGS, (96, 128))
    prepared = [proposer.prepare(sky((96, 128), np.uint16, seed)) for seed in range(frames)]
    light, _ = proposer._average(prepared[0], prepared[1:])
    mean = np.mean([p.light for p in prepared], axis=0)
    np.testing.assert_allclose(light, np.nan_to_num(mean), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_regions_are_cut_out_with_saturated_pixels_at_the_ceiling(dtype):
    pixels = sky((96, 128), dtype, 3)
    pixels[40:44, 50:54] = 250
    frames = [Frame(Stamp("cam", 0, t, t), pixels + dtype(t), 250.0) for t in range(2)]
    prepared = [Proposer(SETTINGS, pixels.shape).prepare(frame.pixels) for frame in frames]
    prepared[0].light[42, 52] = np.nan
    corners, ceiling = np.array([[0, 0], [45, 36], [117, 85]]), np.array([50.0, 60.0, 70.0])
    patches = cut_regions(frames, [ready.light for ready in prepared], corners, ceiling)
    for (x, y), high, patch in zip(corners, ceiling, patches, strict=True):
        for frame, ready, found in zip(frames, prepared, patch, strict=True):
            light, seen = (part[y : y + 11, x : x + 11] for part in (ready.light, frame.pixels))
            np.testing.assert_array_equal(found, np.where((seen >= 250) & ~np.isnan(light), np.float32(high), light))
    assert cut_regions(frames, [ready.light for ready in prepared], corners[:0], ceiling[:0]).shape == (0, 2, 11, 11)


def test_the_memory_layout_of_pixels_does_not_matter():
    pixels = sky((96, 128), np.uint16, 5)
    plain = Proposer(SETTINGS, pixels.shape).prepare(pixels)
    for other in (np.asfortranarray(pixels), np.repeat(pixels, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(Proposer(SETTINGS, pixels.shape).prepare(other).light, plain.light)
