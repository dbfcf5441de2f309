"""Every file source against one contract, and each with damaged, unusual and unsupported files."""

import inspect
import itertools
import warnings
from pathlib import Path

import cv2
import h5py
import media_files as media
import numpy as np
import pytest
import scipy.io
import tifffile
from collect_errors import collect_until_error
from media_files import make_frames

from irst_stream import FormatError, IrstError, Pose, SourceError, Stamp, open_source
from irst_stream.io import jsonl
from irst_stream.io.manifest import Manifest, write_manifest
from irst_stream.io.media import fits, tiff, video
from irst_stream.io.media.images import encode_png
from irst_stream.io.media.raw import write_raw
from irst_stream.io.media.video import check_depth
from irst_stream.sim import Platform, SceneSettings, Sensor
from irst_stream.sim.on_disk import scene_set

CASES = [pytest.param(w, d, id=f"{w.__name__}-{d}") for w, types in media.MEDIA.items() for d in types]


@pytest.mark.parametrize(("write", "dtype"), CASES)
def test_contract(write, dtype, tmp_path):
    """Frames are bit-exact, in order, stamped, counted, read-only, read lazily, and the same at each iteration."""
    frames = make_frames(dtype, write=write)
    path = write(tmp_path / "flight", frames)
    with open_source(path) as source:
        assert source.frames == len(frames)
        assert not source.has_truth
        assert list(source.truths()) == []
        assert inspect.isgenerator(iter(source))
        first = next(iter(source))
        got = list(source)
        again = [frame.pixels for frame in source]
        ((name, read),) = source.sequences()
        assert [frame.stamp for frame in read()] == [frame.stamp for frame in got]
    assert name == "flight"
    assert np.array_equal(first.pixels, frames[0])
    assert len(got) == len(frames)
    for k, frame in enumerate(got):
        assert frame.pixels.dtype == dtype
        assert frame.pixels.dtype.isnative
        np.testing.assert_array_equal(frame.pixels, frames[k])
        np.testing.assert_array_equal(again[k], frames[k])
        assert not frame.pixels.flags.writeable
        assert (frame.stamp.sensor, frame.stamp.epoch, frame.stamp.index) == ("flight", 0, k)
        assert frame.stamp.time_ns == pytest.approx(k * 1e9 / source.rate_hz, abs=1e6)
        assert frame.stamp.source
    source.close()


READABLE_FRAMES = {
    media.png_folder: (7,),
    media.bmp_folder: (7,),
    **dict.fromkeys((media.tiff_folder, media.jpeg_folder, media.radiometric_folder), (7,)),
    **dict.fromkeys((media.fff_folder, media.fits_folder), (7,)),
    media.tiff_stack: (7, 8),  # its page directories follow all pixels
    media.npy: (7,),
    **dict.fromkeys((media.npy_by_columns, media.npz, media.npz_compressed, media.mat5, media.mat73), (0,)),
}
"""Frames of 12 that can be read if a file, or the eighth file of a folder, is cut to 60 %; other formats: 3 to 7."""


def opened_frames(path):
    """Open a source and yield its frames, so that errors on opening are raised by the iteration."""
    yield from open_source(path)


@pytest.mark.parametrize(("write", "dtype"), [c for c in CASES if c.values[1] in (media.U16, media.U8)])
def test_truncated_files_deliver_what_is_readable_and_name_the_file(write, dtype, tmp_path):
    frames = make_frames(dtype, write=write)
    path = write(tmp_path / "flight", frames)
    victim = sorted(path.iterdir(), key=lambda p: int(p.stem[6:]))[7] if path.is_dir() else path
    data = victim.read_bytes()
    victim.write_bytes(data[: int(len(data) * 0.6)])
    got, message = collect_until_error(opened_frames(path), SourceError)
    assert victim.name in message
    assert len(got) in READABLE_FRAMES.get(write, range(3, 8))
    for k, frame in enumerate(got):
        np.testing.assert_array_equal(frame.pixels, frames[k])


MORE = [".jpg", ".fits", ".fits.gz", ".fff", ".seq", ".csq"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".npy", ".npz", ".mat", ".mkv", ".avi", ".mp4", *MORE])
@pytest.mark.parametrize("content", [b"", b"hello, world", bytes(range(256)) * 40], ids=["empty", "short", "noise"])
def test_files_with_invalid_content_are_refused_by_name(suffix, content, tmp_path, capfd):
    path = tmp_path / f"flight{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"flight{suffix}") as caught:
        list(open_source(path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "no library says more"


def test_a_damaged_png_is_distinguished_from_a_truncated_one(tmp_path):
    path = tmp_path / "a.png"
    data = bytearray(encode_png(make_frames(np.uint16)[0]))
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.png: damaged: checksum mismatch in its IDAT chunk"):
        list(open_source(path))


def test_a_change_of_size_or_type_raises_after_the_frames_before_it(tmp_path):
    frames = make_frames(np.uint16, 4)
    for odd, message in (
        (frames[0][:10], "frame_10.png: 32x10 uint16, but frame_8.png is 32x24 uint16"),
        (frames[0].astype(np.uint8), "frame_10.png: 32x24 uint8, but frame_8.png is 32x24 uint16"),
    ):
        path = media.png_folder(tmp_path / str(odd.shape[0]), frames)
        (path / "frame_10.png").write_bytes(encode_png(odd))
        got, text = collect_until_error(open_source(path))
        assert len(got) == 2
        assert message in text


def test_colour_is_refused_with_a_command_that_converts_it(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (8, 24, 32, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), colour[0])
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
    for frame in colour:
        writer.write(frame)
    writer.release()
    for name in ("a.png", "a.tif", "a.avi"):
        with pytest.raises(SourceError, match=rf"{name}: colour, 3 channels; expected gray. --gray .* converts it"):
            list(open_source(tmp_path / name))


def test_gray_video_in_a_colour_codec_is_read_as_gray(tmp_path):
    smooth = np.broadcast_to(np.arange(32, dtype=np.uint8) * 7, (6, 24, 32)).copy()
    got = list(open_source(media._video(tmp_path / "a.avi", "MJPG", smooth)))
    assert len(got) == 6
    assert np.abs(got[3].pixels.astype(int) - smooth[3]).max() < 12  # lossy


@pytest.mark.parametrize(
    ("dtype", "becomes"), [(">u2", "uint16"), ("<i2", "float32"), ("f8", "float32"), ("f2", "float32"), ("?", "uint8")]
)
def test_other_number_types_are_converted_without_loss(dtype, becomes, tmp_path):
    frames = (make_frames(np.uint16) // 20 - (300 if dtype == "<i2" else 0)).astype(dtype)
    got = list(open_source(media.npy(tmp_path / "a", frames)))
    assert got[0].pixels.dtype == becomes
    np.testing.assert_array_equal(got[5].pixels, frames[5])


def test_number_types_that_would_lose_precision_are_refused(tmp_path):
    with pytest.raises(SourceError, match="pixels are int32; expected uint8"):
        list(open_source(media.npy(tmp_path / "a", make_frames(np.int32))))
    np.save(tmp_path / "objects.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(SourceError, match=r"objects\.npy"):
        open_source(tmp_path / "objects.npy")


def test_a_single_image_is_a_sequence_of_one_frame(tmp_path):
    image = make_frames(np.uint16)[0]
    for path in (tmp_path / "a.png", tmp_path / "a.npy", tmp_path / "b.mat"):
        if path.suffix == ".png":
            path.write_bytes(encode_png(image))
        elif path.suffix == ".npy":
            np.save(path, image)
        else:
            scipy.io.savemat(path, {"image": image})
        source = open_source(path)
        assert source.frames == 1
        np.testing.assert_array_equal(next(iter(source)).pixels, image)


def test_a_folder_of_folders_gives_one_sequence_each_in_natural_order(tmp_path):
    frames = make_frames(np.uint8)
    for k in (10, 9, 2):
        media.png_folder(tmp_path / f"run{k}", frames[:k])
    got = [(f.stamp.sensor, f.stamp.index) for f in open_source(tmp_path)]
    assert got == [(f"run{k}", i) for k in (2, 9, 10) for i in range(k)]


def filled(folder, settings):
    """A scene of six frames on disk."""
    made = scene_set(folder, settings, 6)
    made.claim()
    made.fill(made.missing(), 1, lambda _: None)


def test_a_missing_frame_of_a_scene_raises_and_shifts_no_other_frame(tmp_path):
    filled(tmp_path / "sc", SceneSettings(sensor=Sensor(width=32, height=32)))
    (tmp_path / "sc" / "frames" / "frame_000003.png").unlink()
    got, message = collect_until_error(open_source(tmp_path / "sc"), SourceError)
    assert len(got) == 3
    assert "frame_000003.png" in message


def test_frames_carry_the_poses_of_their_folder(tmp_path):
    settings = SceneSettings(sensor=Sensor(width=32, height=32), platform=Platform(drift_x_px_s=9.0, jitter_px=0.5))
    filled(tmp_path / "sc", settings)
    poses = list(jsonl.read(tmp_path / "sc/poses.jsonl", Pose))
    found = [frame.pose for frame in open_source(tmp_path / "sc")]
    assert [(p.x, p.y, p.roll_rad) for p in found] == [(p.x, p.y, p.roll_rad) for p in poses]
    (tmp_path / "sc/poses.jsonl").write_text("nonsense")
    with pytest.raises(FormatError, match=r"poses\.jsonl:1"):
        next(iter(open_source(tmp_path / "sc")))


@pytest.mark.parametrize("parameters", [{}, {"name": "a", "sensor": {"rate_hz": 0, "bits": 14}}, {"name": 3}])
def test_an_invalid_scene_manifest_is_refused(parameters, tmp_path):
    write_manifest(tmp_path, Manifest("scene", "0", 3, parameters))
    with pytest.raises(FormatError, match=r"manifest\.json: parameters: "):
        open_source(tmp_path)


def test_hidden_files_are_ignored(tmp_path):
    folder = media.png_folder(tmp_path / "a", make_frames(np.uint8, 3))
    (folder / "._frame_8.png").write_bytes(b"x")
    assert len(list(open_source(folder))) == 3


def test_a_stack_with_a_single_page_directory_is_read_completely(tmp_path):
    frames = make_frames(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack", truncate=True)
    tifffile.imwrite(tmp_path / "b.tif", frames, imagej=True, truncate=True, metadata={"axes": "TYX"})
    for name in ("a.tif", "b.tif"):
        got = list(open_source(tmp_path / name))
        np.testing.assert_array_equal(np.stack([f.pixels for f in got]), frames)


def test_white_is_zero_images_are_inverted(tmp_path):
    frames = make_frames(np.uint8, 2)
    tifffile.imwrite(tmp_path / "a.tif", 255 - frames, photometric="miniswhite")
    np.testing.assert_array_equal(next(iter(open_source(tmp_path / "a.tif"))).pixels, frames[0])


def test_palette_images_are_refused_as_colour(tmp_path):
    colours = np.linspace(0, 65535, 256).astype(np.uint16)[None] * np.array([[1], [0], [0]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", make_frames(np.uint8, 2), photometric="palette", colormap=colours)
    with pytest.raises(SourceError, match="colour"):
        list(open_source(tmp_path / "a.tif"))
    np.save(tmp_path / "a.npy", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(SourceError, match="one colour image"):
        open_source(tmp_path / "a.npy")


def test_external_storage_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(600))
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("frames", (2, 10, 30), np.uint8, external=[(str(tmp_path / "secret"), 0, 600)])
        file["link"] = h5py.ExternalLink(str(tmp_path / "secret"), "/x")
    with pytest.raises(SourceError, match="no array that can be frames"):
        open_source(tmp_path / "a.mat")


def test_an_empty_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 20, 30), np.uint8))
    with pytest.raises(SourceError, match="without a single frame"):
        list(open_source(tmp_path / "a.npy"))


def test_pixel_formats_that_would_be_truncated_are_refused():
    for tag, bits in ((b"Y1\x00\x0c", 12), (b"\x10\x001Y", 16), (b"Y3\x0b\n", 10)):
        with pytest.raises(SourceError, match=f"its {bits}-bit pixel format would be truncated to 8 bits"):
            check_depth(Path("a.mkv"), tag)
    for tag in (b"Y800", b"Y1\x00\x10", b"I420"):
        check_depth(Path("a.mkv"), tag)


@pytest.mark.parametrize("write", [w for w in media.MEDIA if w not in (media.video, media.avi)], ids=lambda w: w.__name__)
def test_flipped_bytes_give_frames_or_a_one_line_error(write, tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "flight", make_frames(media.MEDIA[write][0], 4))
    victim = sorted(path.iterdir())[1] if path.is_dir() else path
    data = np.frombuffer(victim.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = data.copy()
        where = rng.integers(0, len(data) if rng.random() < 0.5 else min(600, len(data)), rng.integers(1, 6))
        damaged[where] = rng.integers(0, 256, len(where))
        victim.write_bytes(damaged.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # parsers may warn about damaged bytes
                frames = list(itertools.islice(open_source(path), 100))
        except IrstError as error:
            assert "\n" not in str(error)  # noqa: PT017 - frames or an IrstError, no other error
        else:
            assert all(frame.pixels.ndim == 2 for frame in frames)


def test_paths_without_frames_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name, message, kinds in (
        ("none", "no such file", ()),
        ("empty", "no images", ("TIFF", "raw files with a sidecar", "a generated scene")),
        ("notes.txt", "not a kind of file", (*video.SUFFIXES, *tiff.SUFFIXES, *fits.SUFFIXES, ".mcap", ".raw", ".jpeg")),
    ):
        with pytest.raises(SourceError, match=message) as refused:
            open_source(tmp_path / name)
        said = str(refused.value).removeprefix(str(tmp_path))
        assert all(kind in said for kind in kinds)
        assert len(said) < 260


def test_a_tiff_of_one_page_is_called_so(tmp_path):
    for pages, kind in ((1, "TIFF of one page"), (2, "multi-page TIFF")):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((pages, 9, 9), np.uint16), metadata=None)
        assert open_source(tmp_path / "a.tif").kind == kind


def test_an_unreadable_image_is_a_source_error(tmp_path):
    folder = media.png_folder(tmp_path / "a", make_frames(np.uint8, 3))
    source = open_source(folder)
    (folder / "frame_10.png").unlink()
    got, message = collect_until_error(source)
    assert len(got) == 2
    assert "frame_10.png" in message


def test_each_stamp_names_the_file_of_its_frame(tmp_path):
    folder = media.png_folder(tmp_path / "a", make_frames(np.uint8, 2))
    assert [f.stamp for f in open_source(folder, rate_hz=10.0)] == [
        Stamp("a", 0, 0, 0, "frame_8.png"),
        Stamp("a", 0, 1, 100_000_000, "frame_9.png"),
    ]


@pytest.mark.parametrize("kind", ["png_folder", "npy", "tiff", "raw"])
def test_a_sequence_is_read_from_any_frame_on_without_the_frames_before(kind, tmp_path):
    frames = make_frames(np.uint16)
    if kind == "raw":
        write_raw(tmp_path / "a.raw", frames, rate_hz=100.0, bits=14)
        source = open_source(tmp_path / "a.raw")
    elif kind == "npy":
        np.save(tmp_path / "a.npy", np.stack(frames))
        source = open_source(tmp_path / "a.npy")
    elif kind == "tiff":
        tifffile.imwrite(tmp_path / "a.tif", np.stack(frames))
        source = open_source(tmp_path / "a.tif")
    else:
        source = open_source(media.png_folder(tmp_path / "a", frames))
        (tmp_path / "a" / "frame_8.png").write_bytes(b"damaged")  # is never read
    ((name, count),) = source.clips()
    assert count == len(frames)
    got = list(source.frames_from(name, 5))
    assert [frame.stamp.index for frame in got] == list(range(5, 12))
    assert all(np.array_equal(frame.pixels, frames[frame.stamp.index]) for frame in got)
    assert [frame.stamp for frame in got] == [frame.stamp for frame in source.frames_from(name, 3)][2:]
    assert not list(source.frames_from(name, 12))
    assert not list(source.frames_from("other"))


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "VP90"), (".m4v", "mp4v")])
def test_videos_of_the_web_and_of_cameras_are_read(tmp_path, suffix, codec):
    path, frames = tmp_path / f"clip{suffix}", np.full((6, 64, 96), 60, np.uint8)
    frames[:, 20:40, 30:60] = 180
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (96, 64), False)
    for frame in frames:
        writer.write(frame)
    writer.release()
    source = open_source(path)
    seen = np.stack([frame.pixels for frame in source])
    assert seen.shape == frames.shape
    assert source.rate_hz == 25
    assert np.abs(seen.astype(int) - frames).mean() < 3
