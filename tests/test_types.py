import numpy as np
import pytest

from irst_stream import Detections, Frame, Stamp, Truth

STAMP = Stamp("a", 0, 0, 0)


def test_a_frame_shares_its_pixels_and_protects_them():
    pixels = np.zeros((4, 5), np.uint16)
    frame = Frame(STAMP, pixels)
    pixels[0, 0] = 7
    assert frame.pixels[0, 0] == 7
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0] = 1


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8), np.zeros(4, np.uint8)])
def test_a_frame_refuses_other_shapes_and_types(pixels):
    with pytest.raises(ValueError, match=r"expected \(H, W\) uint8, uint16 or float32"):
        Frame(STAMP, pixels)


def test_columns_of_different_length_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Truth.amplitude: expected shape \(2,\), got \(3,\)"):
        Truth(STAMP, np.arange(2), np.zeros(2, int), np.zeros((2, 2)), np.zeros(3))


def test_bare_detections_have_no_covariance():
    found = Detections.bare(STAMP, np.zeros((3, 2)), np.ones(3), np.ones(3))
    assert len(found) == 3
    assert np.isnan(found.cov).all()
    assert found.region.dtype == np.int64


def test_truth_is_points_unless_it_says_boxes():
    points = Truth(STAMP, np.arange(2), np.zeros(2, int), np.zeros((2, 2)), np.ones(2))
    assert points.size.shape == (2, 2)
    assert np.isnan(points.size).all()
    assert not points.has_boxes
    boxes = Truth.boxes(STAMP, np.array([[4.0, 7.0]]), np.array([[3.0, 2.0]]))  # columns 4 to 6, rows 7 and 8
    assert boxes.xy.tolist() == [[5.0, 7.5]]
    assert boxes.has_boxes
