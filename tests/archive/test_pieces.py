"""Where pieces begin and end, what their files keep, and how their streams become one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import detections, same

from irst_stream import Detections, Pose, Stamp
from irst_stream.archive.job import lead_in_frames
from irst_stream.archive.join import RegionNumbers
from irst_stream.archive.piece_file import FrameResult, PieceManifest, read_manifest, read_piece, write_piece
from irst_stream.archive.survey import plan_pieces
from irst_stream.build import Config
from irst_stream.conditioning.settings import CorrectSettings
from irst_stream.errors import FormatError
from irst_stream.fit.settings import FitSettings
from irst_stream.propose.settings import ProposeSettings

MANIFEST = PieceManifest("key", "film.npy", "0.1", "digest", "", 40, 36, 1.5)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 500)), max_size=8),
    st.integers(1, 200),
    st.integers(0, 300),
    st.integers(0, 3),
)
def test_pieces_hold_every_frame_once_and_no_more_than_was_asked_for(counts, most, lead_in, reach):
    named = [(f"s{k}", count) for k, count in enumerate(counts)]
    spans = [span for piece in plan_pieces(named, most, lead_in, reach) for span in piece]
    for name, count in named:
        mine = [span for span in spans if span.sequence == name]
        assert [span.first for span in mine] == [0] + [span.stop for span in mine[:-1]]
        assert mine[-1].stop is None  # to the end, wherever that is
        if count is not None:
            ends = [*(span.stop for span in mine[:-1]), count]
            assert all(end - span.first <= most for span, end in zip(mine, ends, strict=True))
        for span in mine:
            assert span.lead == min(span.first, lead_in + reach)
    assert len({span.sequence for span in spans}) == len(counts)


def test_short_sequences_share_a_piece():
    counts = [(f"s{k}", 20) for k in range(7)]
    assert [len(piece) for piece in plan_pieces(counts, 60, 64, 2)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("config", "patches", "frames"),
    [
        (Config(), True, 0),
        (Config(), False, 200),
        (Config(readout="network", engine="seqcsist"), True, 5),
        (Config(fit=FitSettings(refit_every=8)), True, 64),
        (Config(propose=ProposeSettings(clutter_frames=100)), False, 400),
        (Config(readout="fit", fit=FitSettings(refit_every=1), correct=CorrectSettings(lines="rows")), True, 128),
    ],
)
def test_the_lead_in_follows_from_what_is_remembered(config, patches, frames):
    assert lead_in_frames(config, patches=patches) == frames


@given(found=st.lists(detections(), max_size=3))
def test_a_piece_comes_back_as_it_was_written(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("p") / "pieces" / "0.piece"
    results = [
        FrameResult(one, one if k else None, Pose(one.stamp, 1.5, -2.0, 0.01, 0.1) if k else None, (5, 7), k, k > 1)
        for k, one in enumerate(found)
    ]
    write_piece(path, MANIFEST, results)
    manifest, read = read_piece(path)
    assert (manifest.key, manifest.answered, manifest.seconds) == ("key", 36, 1.5)
    for one, other in zip(results, read, strict=True):
        same(one.found, other.found)
        assert np.array_equal(one.found.factor, other.found.factor)
        assert (other.tracked is other.found) == (one.tracked is one.found)
        assert one[2:] == other[2:]


def test_a_damaged_piece_counts_as_missing(tmp_path):
    path = tmp_path / "0.piece"
    stamp = Stamp("a", 0, 3, 4)
    write_piece(path, MANIFEST, [FrameResult(Detections.bare(stamp, np.ones((2, 2)), np.ones(2), np.ones(2)))])
    whole = path.read_bytes()
    assert read_manifest(path, "key") is not None
    assert read_manifest(path, "other") is None
    for damaged in (b"", b"{}\n", whole[:-1], whole[:20], whole[:-9] + b"x" + whole[-8:], b"\xff" * 100):
        path.write_bytes(damaged)
        assert read_manifest(path, "key") is None
        with pytest.raises(FormatError, match=r"0\.piece"):
            read_piece(path)


def test_regions_count_on_from_piece_to_piece():
    lines, numbers = RegionNumbers(), []
    for _ in range(2):
        lines.begin()
        for region in ([0, 2], [1, -1]):
            one = Detections.bare(Stamp("a", 0, 1, 1), np.zeros((2, 2)), np.ones(2), np.ones(2))
            one = Detections(one.stamp, one.xy, one.cov, one.amplitude, one.amplitude_sd, one.score, np.array(region))
            placed = lines.number(FrameResult(one, one))
            assert placed.tracked is placed.found
            numbers.append(placed.found.region.tolist())
    assert numbers == [[0, 2], [1, -1], [3, 5], [4, -1]], "lights too large for a region keep theirs"
