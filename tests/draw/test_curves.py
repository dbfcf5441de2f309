"""Plots of scores: every curve can be seen."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from tracks_and_truth import film

from irst_stream import Detections, Stamp, Truth, score_detections, score_tracks
from irst_stream.draw import detection_curves, paths, tracking
from irst_stream.draw.marks import viridis


def test_both_curves_of_the_roc_are_seen_where_they_coincide(tmp_path):
    pairs = []
    for k in range(4):
        stamp = Stamp("sky", 0, k, 0)
        found = np.array([[5.0, 8.0], [20.0, 20.0], [1.0, 1.0]])[: 1 + k % 3]
        boxes = Truth.boxes(stamp, np.array([[4.0, 7]]), np.array([[3.0, 3]]), (32, 24))
        pairs.append((Detections.bare(stamp, found, np.ones(len(found)), np.array([0.5, 0.9, 0.2])[: len(found)]), boxes))
    detection_curves(tmp_path / "roc.png", score_detections(pairs))
    picture = imread(tmp_path / "roc.png")[:, :, :3]
    plot = picture[:, : picture.shape[1] // 2]  # without the legend
    for shade in (0.2, 0.7):
        assert (np.abs(plot - viridis(shade)[:3]).max(axis=2) < 0.02).sum() > 100


def test_legends_of_errors_over_time_are_beside_the_curves(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(paths, "save", lambda figure, _: drawn.append(figure))
    pairs = film([{7: (5.0 + k, 8.0)} for k in range(5)], [{7: (5.1 + k, 8.0)} for k in range(5)])
    tracking(tmp_path / "tracks.png", score_tracks(pairs), pairs, None)
    (figure,) = drawn
    FigureCanvasAgg(figure).draw()
    legends = [(axes.get_legend(), axes.get_window_extent()) for part in figure.subfigs for axes in part.axes]
    beside = [legend.get_window_extent().x0 >= extent.x1 for legend, extent in legends if legend is not None]
    assert beside == [True] * 3
