"""Which recordings are meant: folders, files, globs, lists and object storage; and how a worker opens one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from typing import Any

from irst_stream.errors import IrstError, MissingPackageError, SourceError, UsageError
from irst_stream.io.files import is_source
from irst_stream.io.media import images
from irst_stream.io.media.medium import natural_key

__all__ = ["Fetched", "as_named", "find_recordings", "folder_name"]

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
MAX_DEPTH = 8  # of folders within a folder
COPIES = "irst-stream-"  # how the names of folders with copies begin
SIDE_FILES = (".toml", ".truth.jsonl")  # files that accompany a recording: x.mcap.toml, x.truth.jsonl


def find_recordings(words: Sequence[str]) -> list[str]:
    """Return the recordings that words name, each once: paths, and addresses in object storage.

    A word is one of these:
        a folder or a file of frames, a recording, or a folder that holds any of them;
        a glob;
        an address in object storage, such as s3://bucket/day/*.mcap;
        @list.txt, a file that has one word on each line.
    A missing path is returned with the others, and its error is reported with their results. Raise a SourceError if a word
    matches nothing, or if all paths are missing.
    """
    found: dict[str, None] = {}
    for word in words:
        for one in _lines(Path(word[1:])) if word.startswith("@") else [word]:
            named = list(_remote(one)) if _is_remote(one) else [str(path) for path in _local(one)]
            if not named:
                what = "no such file" if has_magic(one) else "holds no recording"
                raise SourceError(
                    f"{one}: {what}. Expected folders or files of frames, recordings (.mcap), or folders of these"
                )
            found |= dict.fromkeys(named)
    if not found:
        raise SourceError("nothing to do: the list names no recording")
    if not any(_is_remote(name) or Path(name).exists() for name in found):
        raise SourceError(f"{next(iter(found))}: no such file or folder")
    return list(found)


def as_named(source: str, text: str) -> str:
    """Return text that speaks of a recording as the user named it, and not of a copy of what is in object storage."""
    if not _is_remote(source):
        return text
    name = PurePosixPath(source.rstrip("/")).name
    return re.sub(rf"{re.escape(gettempdir())}/{COPIES}[^/]+/{re.escape(name)}", lambda _: source, text)


def _is_remote(name: str) -> bool:
    """Whether a name is an address in object storage."""
    return SCHEME.match(name) is not None


def folder_name(source: str) -> str:
    """Return the name of a recording's folder: its own name, and a mark that no other source has."""
    path = source if _is_remote(source) else str(Path(source).resolve())
    stem = PurePosixPath(path.rstrip("/")).stem or "recording"
    mark = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)[:80].lstrip('.')}-{mark}"


class Fetched:
    """A recording as a path of this machine: as it is, or a copy of what is in object storage; a context manager.

    identity: changes when the recording may have; its content may still be the same.
    """

    def __init__(self, source: str) -> None:
        self._source, self._folder = source, ""
        if not _is_remote(source):
            self.path = Path(source)
            return
        with _storage_errors(source):
            files, place = _file_system(source)
            self._folder = mkdtemp(prefix=COPIES)
            self.path = Path(self._folder) / PurePosixPath(place.rstrip("/")).name
            files.get(place, str(self.path), recursive=files.isdir(place))
            for suffix in SIDE_FILES:
                for companion in {f"{place}{suffix}", f"{place.removesuffix(PurePosixPath(place).suffix)}{suffix}"}:
                    if files.isfile(companion):
                        files.get(companion, str(Path(self._folder) / PurePosixPath(companion).name))

    def files(self) -> list[Path]:
        """Return all files that the recording consists of, in order; itself and its sidecars."""
        if not self.path.is_dir():
            companions = [self.path.with_name(self.path.name + s) for s in SIDE_FILES] + [
                self.path.with_suffix(SIDE_FILES[1])
            ]
            return [path for path in (self.path, *companions) if path.is_file()]
        return sorted(path for path in self.path.rglob("*") if path.is_file())

    def identity(self) -> str:
        """Return a mark that changes whenever the recording may have changed: of its files' names, sizes and times."""
        if _is_remote(self._source):
            with _storage_errors(self._source):
                files, place = _file_system(self._source)
                names = sorted(files.find(place)) if files.isdir(place) else [place]
                return _digest(f"{name} {files.ukey(name)}" for name in names)
        stats = ((path, path.stat()) for path in self.files())
        return _digest(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def content(self) -> str:
        """Return the SHA-256 of the recording's files, their names within it included."""
        known = hashlib.sha256()
        for path in self.files():
            name = path.relative_to(self.path) if self.path.is_dir() else path.name
            with path.open("rb") as file:
                known.update(f"{name} ".encode("utf-8", "surrogateescape"))
                known.update(_sha(file))
        return known.hexdigest()

    def close(self) -> None:
        """Remove the copy; may be called twice."""
        if self._folder:
            rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Fetched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lines(path: Path) -> list[str]:
    """The lines of a list, without comments; paths relative to the list's folder."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SourceError(f"@{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"@{path}: not a list of recordings, one a line ({error.reason})") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line if _is_remote(line) else str(path.parent / line) for line in lines if line and not line.startswith("#")]


def _local(word: str) -> Iterator[Path]:
    if has_magic(word) and not Path(word).exists():
        for name in sorted(glob(word, recursive=True), key=lambda name: natural_key(Path(name))):  # noqa: PTH207 - absolute ones too
            yield from _within(Path(name), named=False)
        return
    yield from _within(Path(word), named=True)


def _within(path: Path, *, named: bool, depth: int = 0) -> Iterator[Path]:
    """The recordings of a path: itself, or those in a folder that is none.

    named: by the user himself, so that what cannot be read is reported; single images count only then.
    """
    if not path.is_dir():
        is_image = path.suffix.lower() in images.SUFFIXES and not path.suffix.lower().startswith(".tif")
        if named or (is_source(path) and not is_image):
            yield path
        return
    entries = sorted(path.iterdir(), key=natural_key)
    if not any(entry.suffix == ".mcap" for entry in entries) and is_source(path):
        yield path
    elif depth < MAX_DEPTH:
        for entry in entries:
            if not entry.name.startswith("."):
                yield from _within(entry, named=False, depth=depth + 1)


def _remote(address: str) -> Iterator[str]:
    """The recordings of an address: what a glob finds, the files in a folder without images, or itself."""
    with _storage_errors(address):
        files, place = _file_system(address)
        scheme = address.partition("://")[0]
        if has_magic(address):
            yield from (_with_scheme(scheme, one) for one in sorted(files.glob(place)))
            return
        if not files.isdir(place):
            yield address
            return
        entries = sorted(files.find(place, maxdepth=1))
        recordings = [one for one in entries if _is_recording_name(one)]
        yield from (_with_scheme(scheme, one) for one in recordings) if recordings else [address]


def _is_recording_name(name: str) -> bool:
    """Whether a file's name is that of a recording of its own, and not of one image or a sidecar."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in {".mcap", ".mp4", ".m4v", ".avi", ".mkv", ".mov", ".webm", ".npy", ".npz", ".mat", ".seq", ".csq"}


def _with_scheme(scheme: str, place: str) -> str:
    return place if _is_remote(place) else f"{scheme}://{place}"


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the place in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingPackageError("fsspec", "storage", address) from error
    files, place = fsspec.core.url_to_fs(address)
    return files, str(place)


@contextmanager
def _storage_errors(address: str) -> Iterator[None]:
    """Turn what a storage raises into an error that names the address."""
    try:
        yield
    except IrstError:
        raise
    except ImportError as error:  # the store's own package
        raise UsageError(f"{address}: {error}") from error
    except Exception as error:  # each store has errors of its own
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:200]
        raise SourceError(f"{address}: {reason or type(error).__name__}") from error


def _digest(lines: Iterator[str]) -> str:
    known = hashlib.sha256()
    for line in lines:
        known.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return known.hexdigest()


def _sha(file: Any) -> bytes:
    known = hashlib.sha256()
    while block := file.read(1 << 20):
        known.update(block)
    return known.digest()
