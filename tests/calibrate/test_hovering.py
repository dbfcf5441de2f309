"""What stays at its place is clutter; what hovers about it is a target."""

import numpy as np

from irst_stream.calibrate.scene import hovering
from irst_stream.optics import render

SHAPE, FRAMES, SIGMA = (96, 128), 120, 0.9


def light_of(*paths, seed=3):
    """Light (T, H, W) DN of point targets of 60 DN along paths (T, 2), and noise of 1 DN."""
    noise = np.random.default_rng(seed).standard_normal((FRAMES, *SHAPE))
    for path in paths:
        for image, (x, y) in zip(noise, np.broadcast_to(path, (FRAMES, 2)), strict=True):
            image += render(np.array([[x, y]]), np.array([60.0]), SHAPE, SIGMA)
    return noise.astype(np.float32)


def circling(x, y, radius):
    angle = np.linspace(0, 9, FRAMES)
    return np.column_stack([x + radius * np.sin(angle), y + radius * np.cos(0.7 * angle)])


def test_a_target_that_hovers_is_told_from_a_lamp():
    found = hovering(light_of(circling(40, 50, 1.5), (90.3, 40.2)))
    assert found[50, 40]
    assert found[47:53, 37:43].all()
    assert not found[30:50, 80:100].any()


def test_what_sways_among_others_stays_clutter():
    tops = [circling(30 + 6 * k, 60, 1.0) for k in range(8)]
    assert not hovering(light_of(*tops)).any()


def test_before_a_platform_that_moves_a_target_moves_on_and_what_is_thrown_about_is_clutter():
    rng = np.random.default_rng(1)
    thrown = np.repeat(np.array([90.0, 40.0]) + rng.uniform(-1.5, 1.5, (12, 2)), FRAMES // 12, axis=0)
    light = light_of(circling(40, 50, 1.5), thrown)
    assert hovering(light)[40, 90]
    steadily = hovering(light, steadily=True)
    assert steadily[50, 40]
    assert not steadily[30:50, 80:100].any()


def test_noise_and_few_frames_show_nothing():
    assert not hovering(light_of()).any()
    assert not hovering(light_of(), steadily=True).any()
    assert not hovering(light_of(circling(40, 50, 1.5))[:10]).any()
