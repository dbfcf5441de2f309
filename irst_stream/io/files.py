"""open_source(path): whatever frames a path holds, recognised and streamed, without loading the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from irst_stream.errors import IrstError, SourceError, UsageError
from irst_stream.io import jsonl, media
from irst_stream.io.faults import named_errors
from irst_stream.io.media.medium import Choice, Clip, Medium, Page, Reader, gray_pixels, type_ceiling
from irst_stream.io.media.sidecar import Sidecar, read_sidecar, sidecar_path
from irst_stream.types import Frame, Pixels, Pose, Stamp, Truth

if TYPE_CHECKING:
    from irst_stream.io.recording.recorder import Recording

__all__ = ["DEFAULT_RATE_HZ", "FileSource", "is_source", "open_source"]

DEFAULT_RATE_HZ = 50.0  # where neither the file, nor a sidecar, nor the caller states a rate
POSES = "poses.jsonl"


def open_source(
    path: str | Path,
    *,
    kind: str | None = None,
    variable: str | None = None,
    rate_hz: float | None = None,
    gray: bool = False,
    single: bool = False,
) -> FileSource | Recording:
    """Open the frames of a path: files, folders (see io.media.READERS), or a recording, .mcap.

    kind: "seqcsist" or "csist100k", where the folder does not tell; variable: the array of a .mat or .npz with several, or
    the name or number of the image in a FITS file; rate_hz: overrides what the file or its sidecar states; gray: convert
    colour by luminance; single: every image is a sequence of its own, of any size, named as its file, or NAME_00012 where a
    file or a sequence NAME has several. Raises a SourceError where there is nothing to read.
    """
    path = Path(path)
    if path.suffix == ".mcap" and single:
        raise UsageError(f"--single: {path} is a recording, whose frames are sequences; expected images")
    if path.suffix == ".mcap":
        from irst_stream.io.recording.recorder import open_recording

        _check_variable(path, variable, named=False)
        return open_recording(path)
    with named_errors(str(path)):
        sidecar = read_sidecar(path)
        choice, reader = Choice(kind, variable, gray, single), _reader(path, sidecar)
        _check_variable(path, variable, named=reader.has_names(path))
        return FileSource(path, reader.open(path, sidecar, choice), sidecar, choice, rate_hz)


def _check_variable(path: Path, variable: str | None, *, named: bool) -> None:
    """Raise a UsageError where an array is asked for by name of what holds no named arrays."""
    if variable is not None and not named:
        raise UsageError(f"--variable: {path} holds no named arrays; expected a .npz, .mat or FITS file")


def is_source(path: Path) -> bool:
    """Whether a path is of a kind that open_source reads, as far as its name and its first bytes tell."""
    if path.suffix == ".mcap":
        return path.is_file()
    try:
        sidecar = read_sidecar(path)
        return any(reader.recognises(path, sidecar) for reader in media.READERS)
    except (IrstError, OSError):
        return False


def _reader(path: Path, sidecar: Sidecar) -> Reader:
    """The reader that recognises a path; a SourceError where none does."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path}: empty file")
    for reader in media.READERS:
        if reader.recognises(path, sidecar):
            return reader
    folder = path.is_dir()
    what = "no images in this folder or in its folders" if folder else "not a kind of file that holds frames"
    *others, last = (reader.expects for reader in media.READERS if reader.of_folders == folder and reader.expects)
    kinds = others if folder else [".mcap", *others]
    raise SourceError(f"{path}: {what}; expected {', '.join(kinds)} or {last}")


class FileSource:
    """The frames of a path, sequence after sequence; a protocols.Source and a context manager.

    kind, dataset, frames (None where only reading tells), rate_hz, rate_from (who stated the rate), full_scale (None for
    the pixel type's own) and has_truth say what it is. Iterating starts from the beginning each time.
    """

    def __init__(self, path: Path, medium: Medium, sidecar: Sidecar, choice: Choice, rate_hz: float | None) -> None:
        stated = [
            (rate_hz, "stated"),
            (sidecar.rate_hz, "sidecar"),
            (medium.rate_hz, "container"),
            (DEFAULT_RATE_HZ, "default"),
        ]
        self.path, self.kind, self.dataset, self.frames = path, medium.kind, medium.dataset, medium.frames
        self.rate_hz, self.rate_from = next((rate, who) for rate, who in stated if rate is not None)
        self.full_scale = medium.full_scale if sidecar.bits is None else 2**sidecar.bits - 1
        self.has_truth = medium.truths is not None
        self.rejected: Counter[str] = Counter()
        self._medium, self._sidecar, self._choice, self._stopped = medium, sidecar, choice, False

    def __iter__(self) -> Iterator[Frame]:
        empty = True
        poses = self._poses()
        for clip in self._medium.clips():
            for frame in self._frames(clip, poses):
                empty = False
                yield frame
            if self._stopped:
                return
        if empty:
            raise SourceError(f"{self.path}: {self.kind} without a single frame")

    def clips(self) -> list[tuple[str, int | None]]:
        """Return each sequence's name and number of frames, None where only reading tells it."""
        clips = [(clip.name, clip.frames) for clip in self._medium.clips()]
        return [(clips[0][0], self.frames)] if len(clips) == 1 and clips[0][1] is None else clips

    def frames_from(self, name: str, first: int = 0) -> Iterator[Frame]:
        """Yield the frames of a sequence from number `first` on; none of an unknown sequence."""
        poses = self._poses()
        for clip in self._medium.clips():
            if clip.name == name:
                yield from self._frames(clip, poses, first)
                return

    def sequences(self) -> Iterator[tuple[str, Callable[[], Iterator[Frame]]]]:
        """Each sequence's name, and what reads its frames from its first one."""
        for clip in self._medium.clips():
            yield clip.name, partial(self._frames, clip, {})

    def _frames(self, clip: Clip, poses: dict[tuple[str, int], Pose], start: int = 0) -> Iterator[Frame]:
        """Yield the frames of a clip from number `start` on until stop() is called."""
        first: tuple[Pixels, Page] | None = None
        for index, page in enumerate(_read(clip, start), start):
            pixels = gray_pixels(page.pixels, self._within(page), convert=self._choice.gray)
            first = first or (pixels, page)
            if not self._choice.single:
                _same_kind(pixels, page, self._within(page), *first)
            if self._stopped:
                return
            stamp = self._stamp(clip.name, index, self._time_ns(index, page), page.source, page.name)
            scale = self.full_scale or type_ceiling(pixels.dtype)
            yield Frame(stamp, pixels, scale, pose=poses.get((clip.name, index)))

    def truths(self) -> Iterator[Truth]:
        """The truth of every frame, in order, with the same stamps; nothing where there is none."""
        with named_errors(str(self.path)):
            for truth in self._medium.truths() if self._medium.truths else ():
                found = truth.stamp
                time_ns = self._time_ns(found.index, None)
                yield replace(truth, stamp=self._stamp(found.sensor, found.index, time_ns, found.source))

    def stop(self) -> None:
        """Ends the iteration after the frame that is being read; any thread may call it."""
        self._stopped = True

    def close(self) -> None:
        """Nothing stays open between two iterations."""

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _poses(self) -> dict[tuple[str, int], Pose]:
        """Where the platform pointed, by sequence and index, if a file in the folder says so."""
        path = self.path / POSES
        if not path.is_file():
            return {}
        with named_errors(str(path)):
            return {(pose.stamp.sensor, pose.stamp.index): pose for pose in jsonl.read(path, Pose)}

    def _stamp(self, sequence: str, index: int, time_ns: int, source: str, image: str = "") -> Stamp:
        """The stamp of a frame; with single images, that of a sequence of its own. image: its name, "" to number it."""
        if not self._choice.single:
            return Stamp(sequence, 0, index, time_ns, source)
        return Stamp(image or f"{sequence}_{index:05d}", 0, 0, time_ns, source)

    def _time_ns(self, index: int, page: Page | None) -> int:
        times = self._sidecar.times_ns
        if times and self.rate_from != "stated":
            if index >= len(times):
                raise SourceError(
                    f"{sidecar_path(self.path)}: times_ns has {len(times)} times, but there is a frame {index}"
                )
            return times[index]
        if page is not None and page.time_ns is not None and self.rate_from == "container":
            return self._sidecar.start_ns + page.time_ns
        return self._sidecar.start_ns + round(index * 1e9 / self.rate_hz)

    def _within(self, page: Page) -> str:
        return page.source if self.path.name == page.source else f"{self.path}: {page.source}"


def _read(clip: Clip, first: int) -> Iterator[Page]:
    """A clip's pages from number `first` on, all that goes wrong as a SourceError."""
    with named_errors(clip.name):
        yield from clip.read(first)


def _same_kind(pixels: Pixels, page: Page, where: str, first: Pixels, first_page: Page) -> None:
    """Raise a SourceError if a frame has not the size and the type of its sequence's first."""
    if (pixels.shape, pixels.dtype) == (first.shape, first.dtype):
        return
    hint = ". They look like unrelated images: --single (in Python single=True) answers each by itself" if page.name else ""
    raise SourceError(
        f"{where}: {_describe(pixels)}, but {first_page.source} is {_describe(first)}; a sequence has one kind{hint}"
    )


def _describe(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} {pixels.dtype}"
