"""The published layout of SeqCSIST and CSIST-100K: <split>/image/image_<id>.png, <split>/annotation/COS<id>.xml.

In these files xc is the ROW and yc the COLUMN. This package uses x = column and y = row; this module converts between them.
Ids sort by number; in SeqCSIST, 20 consecutive ids form one trajectory.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from irst_stream.errors import FormatError, SourceError
from irst_stream.io.annotation_xml import parse_annotation
from irst_stream.io.manifest import read_manifest
from irst_stream.io.media.images import read_pages
from irst_stream.io.media.medium import Choice, Clip, Medium, Page, Reader
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.types import Floats, Stamp, Truth

__all__ = ["KINDS", "READER", "annotation_name", "encode_annotation", "image_name", "read_annotation"]

KINDS = {"seqcsist": "SeqCSIST", "csist100k": "CSIST-100K"}
TRAJECTORY = 20  # frames
SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = ("image", "cso_img")  # cso_img and Annotations: names of the older toolkit
ANNOTATION_FOLDERS = ("annotation", "Annotations")
ID = re.compile(r"(\d+)$")


def image_name(number: int) -> str:
    """Path of an image relative to its split."""
    return f"image/image_{number}.png"


def annotation_name(number: int) -> str:
    """Path of an annotation relative to its split."""
    return f"annotation/COS{number}.xml"


def encode_annotation(number: int, xy: Floats, amplitude: Floats, shape: tuple[int, int], sigma: float) -> bytes:
    """Encode the annotation of one image as XML; numbers read back exactly.

    number: the image's id; xy (N, 2) px as x, y, written as yc, xc; amplitude (N,) DN; shape: rows, columns of the image;
    sigma: width of the point-spread function, px.
    """
    objects = [
        f"""\
  <object>
    <name>target{k}</name>
    <coordinate>
      <xc>{y!r}</xc>
      <yc>{x!r}</yc>
      <brightness>{brightness!r}</brightness>
    </coordinate>
  </object>
"""
        for k, ((x, y), brightness) in enumerate(zip(xy.tolist(), amplitude.tolist(), strict=True))
    ]
    return f"""\
<annotation>
  <filename>image_{number}.png</filename>
  <size>
    <width>{shape[1]}</width>
    <height>{shape[0]}</height>
    <depth>1</depth>
  </size>
  <sigma>{sigma}</sigma>
{"".join(objects)}</annotation>
""".encode()


def read_annotation(path: Path) -> tuple[Floats, Floats]:
    """Read xy (N, 2) px, as x, y, and amplitude (N,) DN from one annotation file; N is 0 for an image without targets."""
    objects = parse_annotation(path).findall("object")
    values = np.array([_target(found, k, path) for k, found in enumerate(objects)], np.float64).reshape(-1, 3)
    return values[:, 1::-1], values[:, 2]


def find_splits(root: Path) -> list[Path]:
    """The splits at a path: the path itself, or its train, val and test folders; empty if the path is no such data set."""
    if root.name in IMAGE_FOLDERS and (root.parent / root.name).is_dir() and _first_folder(root.parent, ANNOTATION_FOLDERS):
        root = root.parent
    if _first_folder(root, IMAGE_FOLDERS):
        return [root]
    return [root / name for name in SPLITS if _first_folder(root / name, IMAGE_FOLDERS)]


def open_csist(splits: list[Path], kind: str | None) -> Medium:
    """Open splits, one after another; kind: "seqcsist", "csist100k", or None to infer it from the files."""
    sets = [_Split.open(folder, kind) for folder in splits]
    dataset = "seqcsist" if sets[0].sequence_length == TRAJECTORY else "csist100k"
    annotated = all(s.annotations is not None for s in sets)
    manifest = read_manifest(splits[0])
    ceiling = manifest.parameters.get("ceiling_dn") if manifest else None
    return Medium(
        f"{KINDS[dataset]}, {' + '.join(s.folder.name for s in sets)}",
        lambda: (clip for s in sets for clip in s.clips()),
        sum(len(s.files) for s in sets),
        full_scale=ceiling if isinstance(ceiling, int) else None,
        dataset=dataset,
        truths=(lambda: (truth for s in sets for truth in s.truths())) if annotated else None,
    )


@dataclass(frozen=True, slots=True)
class _Split:
    """One split: its images by id in ascending order, and the number of images in a sequence."""

    folder: Path
    files: dict[int, Path]
    annotations: Path | None
    sequence_length: int

    @classmethod
    def open(cls, folder: Path, kind: str | None) -> _Split:
        folder = folder.resolve()
        images, annotations = _first_folder(folder, IMAGE_FOLDERS), _first_folder(folder, ANNOTATION_FOLDERS)
        by_id = _files_by_id(images) if images else {}
        if not by_id:
            raise SourceError(f"{images}: no images; expected image_<id>.png")
        files = {number: by_id[number] for number in sorted(by_id)}
        kind = kind or _infer_kind(folder, list(files), annotations)
        return cls(folder, files, annotations, TRAJECTORY if kind == "seqcsist" else 1)

    def clips(self) -> Iterator[Clip]:
        for name, numbers in self._sequences():
            yield Clip(name, partial(self._pages, numbers), len(numbers))

    def truths(self) -> Iterator[Truth]:
        for name, numbers in self._sequences():
            for index, number in enumerate(self._present(numbers)):
                xy, amplitude = read_annotation(self._annotation(number))
                ids = np.arange(len(xy))
                stamp = Stamp(name, 0, index, 0, self.files[number].name)
                yield Truth(stamp, ids, np.zeros(len(xy), np.int64), xy, amplitude)

    def _sequences(self) -> Iterator[tuple[str, list[int]]]:
        """Yield the name and ids of each sequence.

        Sequences follow from the ids, not from the order of the files, so that a missing image shifts no other sequence.
        """
        smallest, length = min(self.files), self.sequence_length
        first = smallest if len(self.files) % length == 0 else smallest - smallest % length
        for sequence, _ in groupby(self.files, lambda number: (number - first) // length):
            start = first + sequence * length
            yield f"{self.folder.name}/{sequence:05d}", list(range(start, start + length))

    def _pages(self, numbers: list[int]) -> Iterator[Page]:
        return read_pages(self.files[number] for number in self._present(numbers))

    def _present(self, numbers: list[int]) -> Iterator[int]:
        """Yield the ids of a sequence; raise a SourceError at the first id without an image."""
        for number in numbers:
            if number not in self.files:
                folder = next(iter(self.files.values())).parent
                raise SourceError(
                    f"{folder / f'image_{number}.png'}: missing; expected {TRAJECTORY} consecutive ids per trajectory"
                )
            yield number

    def _annotation(self, number: int) -> Path:
        folder = self.annotations or self.folder
        names = [f"COS{number}.xml", f"CSO{number}.xml"]  # CSO: name of the older toolkit
        return next((p for name in names if (p := folder / name).is_file()), folder / names[0])


def _first_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _files_by_id(images: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in images.iterdir():
        if path.suffix.lower() == ".png" and not path.name.startswith("."):
            number = _id(path)
            if number in found:
                raise SourceError(f"{path}: has the same id as {found[number].name}")
            found[number] = path
    return found


def _id(path: Path) -> int:
    match = ID.search(path.stem)
    if match is None:
        raise SourceError(f"{path}: no number in its name; expected image_<id>.png")
    return int(match[1])


def _infer_kind(folder: Path, numbers: list[int], annotations: Path | None) -> str:
    """Infer the data set: the manifest's, else SeqCSIST if the amplitudes are constant over the first 20 ids.

    Without annotations, SeqCSIST if the number of images is a multiple of 20; with fewer than 20 images, CSIST-100K.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest.dataset
    if len(numbers) < TRAJECTORY:
        return "csist100k"
    if annotations is None:
        return "csist100k" if len(numbers) % TRAJECTORY else "seqcsist"
    split = _Split(folder, dict.fromkeys(numbers, folder), annotations, 1)
    first, *rest = (read_annotation(split._annotation(n))[1].tolist() for n in numbers[:TRAJECTORY])
    return "seqcsist" if all(amplitude == first for amplitude in rest) else "csist100k"


def _target(found: ET.Element, k: int, path: Path) -> tuple[float, float, float]:
    """Read xc, yc and brightness of object number k."""
    values = []
    for name in ("xc", "yc", "brightness"):
        text = found.findtext(f"coordinate/{name}")
        try:
            value = float(text or "")
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise FormatError(f"{path}: object {k}: coordinate/{name}: expected a finite number, got {text!r}")
        values.append(value)
    return values[0], values[1], values[2]


def _recognises(path: Path, _: Sidecar) -> bool:
    return path.is_dir() and bool(find_splits(path))


def _open(path: Path, _: Sidecar, choice: Choice) -> Medium:
    return open_csist(find_splits(path), choice.kind)


READER = Reader("a SeqCSIST or CSIST-100K set", _recognises, _open, of_folders=True)
