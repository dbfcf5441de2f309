"""Recordings in other programs: frames are foxglove.RawImage, marks foxglove.ImageAnnotations, read by the mcap package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from recordings import frame, record
from strategies import same

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.io.recording.recorder import open_recording


def decoded(path, topic):
    """The messages of a topic, decoded by the mcap package's protobuf support."""
    from mcap_protobuf.decoder import DecoderFactory

    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [(schema.name, message) for schema, _, _, message in reader.iter_decoded_messages(topics=[topic])]


@pytest.mark.parametrize(("dtype", "encoding"), [(np.uint8, "mono8"), (np.uint16, "mono16"), (np.float32, "32FC1")])
def test_frames_open_as_images_elsewhere(tmp_path, dtype, encoding):
    pixels = np.random.default_rng(2).integers(0, 250, (6, 5)).astype(dtype)
    original = Frame(Stamp("cam", 3, 7, 1_700_000_000_123_456_789, "", "unix"), pixels)
    record(tmp_path / "a.mcap", [original])
    ((name, image),) = decoded(tmp_path / "a.mcap", "frame/cam")
    assert name == "foxglove.RawImage"
    assert (image.width, image.height, image.step, image.encoding) == (5, 6, 5 * pixels.itemsize, encoding)
    assert (image.timestamp.seconds, image.timestamp.nanos, image.frame_id) == (1_700_000_000, 123_456_789, "cam")
    assert np.array_equal(np.frombuffer(image.data, dtype).reshape(6, 5), pixels)
    same(next(iter(open_recording(tmp_path / "a.mcap"))), original)


def test_marks_open_elsewhere_at_the_images_time_half_a_pixel_on(tmp_path):
    time_ns = 1_700_000_000_000_000_005
    stamp = Stamp("cam", 1, 4, time_ns, "", "unix")
    cov = np.array([[[0.04, 0.01], [0.01, 0.02]], [[np.nan] * 2] * 2])
    one = np.ones(2)
    found = Detections(stamp, np.array([[10.0, 20.0], [30.0, 40.0]]), cov, one, one, one, np.zeros(2))
    state = np.array([[10.0, 20.0, 1.0, 1.0], [5.0, 6.0, 0.0, 0.0]])
    followed = Tracks(
        stamp, np.array([3, 4]), state, np.tile(np.eye(4), (2, 1, 1)), one, one, np.array([1, 0]), np.array([0, -1])
    )
    image = Frame(stamp, np.zeros((50, 50), np.uint16))
    recorder = record(tmp_path / "a.mcap", [image, found, followed], annotations=True)
    assert (recorder.kept, recorder.lost) == (3, 0)
    ((name, marks),) = decoded(tmp_path / "a.mcap", "marks/detections/cam")
    assert name == "foxglove.ImageAnnotations"
    points, ellipse = marks.points
    assert [(p.x, p.y) for p in points.points] == [(10.5, 20.5), (30.5, 40.5)]
    assert (points.type, ellipse.type, len(marks.points)) == (1, 2, 2)  # the other has no covariance
    d = np.array([(p.x - 10.5, p.y - 20.5) for p in ellipse.points])
    assert np.einsum("ni,ij,nj->n", d, np.linalg.inv(cov[0]), d) == pytest.approx(5.991)
    ((_, marks),) = decoded(tmp_path / "a.mcap", "marks/tracks/cam")
    assert [(c.position.x, c.position.y) for c in marks.circles] == [(10.5, 20.5)]
    assert [text.text for text in marks.texts] == ["3"]
    ((_, sent),) = decoded(tmp_path / "a.mcap", "frame/cam")
    assert str(sent.timestamp) == str(points.timestamp) == str(marks.circles[0].timestamp)
    with open_recording(tmp_path / "a.mcap") as source:
        assert [kind for kind, _ in source.results()] == ["detections", "tracks"]


def test_a_recording_is_hardly_larger_than_its_pixels(tmp_path):
    record(tmp_path / "a.mcap", [frame(k, shape=(512, 640)) for k in range(5)])
    assert (tmp_path / "a.mcap").stat().st_size < 5 * 512 * 640 * 2 * 1.002


def test_without_protobuf_and_its_schemas_recordings_are_written_and_read(tmp_path):
    """What is installed at run time has no protobuf."""
    code = f"""
import sys
for name in ("google.protobuf", "mcap_protobuf"):
    sys.modules[name] = None
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from local_feeds import write_recording
from irst_stream.io.recording.recorder import open_recording
from pathlib import Path
print(len(list(open_recording(write_recording(Path({str(tmp_path)!r}) / "a.mcap", 3, 10)))))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "3\n"
