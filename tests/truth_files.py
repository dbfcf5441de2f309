"""Writers of every format of truth that open_truth reads, for boxes (x, y of the first pixel, w, h) of each frame.

Each returns the path to read. Frames are 32 x 24 px; where a format holds single images, they are named frame_0 and so on.
"""

import json
import struct
from typing import NamedTuple

import numpy as np

from irst_stream import Stamp, Truth
from irst_stream.io import jsonl
from irst_stream.io.media.images import encode_png
from irst_stream.io.truth.masks import write_mask

WIDTH, HEIGHT = 32, 24


def json_lines(path, frames):
    records = [Truth.boxes(Stamp("flight", 0, k, 0), *_columns(boxes), (WIDTH, HEIGHT)) for k, boxes in enumerate(frames)]
    jsonl.write(path / "flight.jsonl", records)
    return path / "flight.jsonl"


def masks(path, frames):
    for k, boxes in enumerate(frames):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        for x, y, w, h in boxes:
            mask[y : y + h, x : x + w] = True
        write_mask(path / f"frame_{k}.png", mask)
    return path


def voc(path, frames):
    for k, boxes in enumerate(frames):
        corners = [{"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h} for x, y, w, h in boxes]
        tags = ("".join(f"<{name}>{value}</{name}>" for name, value in corner.items()) for corner in corners)
        objects = "".join(f"<object><bndbox>{box}</bndbox></object>" for box in tags)
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"<annotation><filename>frame_{k}.jpg</filename>{size}{objects}</annotation>"
        (path / f"frame_{k}.xml").write_text(text)
    return path


def coco(path, frames):
    images = [{"id": k, "file_name": f"frame_{k}.png", "width": WIDTH, "height": HEIGHT} for k in range(len(frames))]
    boxes = [{"image_id": k, "bbox": box, "category_id": 1} for k, found in enumerate(frames) for box in found]
    (path / "set.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": []}))
    return path / "set.json"


def yolo(path, frames):
    """Labels and images as data sets have them: an image without a target has no label file."""
    for name in ("labels", "images"):
        (path / name).mkdir()
    for k, boxes in enumerate(frames):
        (path / "images" / f"frame_{k}.png").write_bytes(encode_png(np.full((HEIGHT, WIDTH), 9, np.uint8)))
        lines = [f"0 {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n" for x, y, w, h in boxes]
        if lines:
            (path / "labels" / f"frame_{k}.txt").write_text("".join(lines))
    return path / "labels"


def yolo_beside(path, frames):
    yolo(path, frames)
    for file in (path / "labels").iterdir():
        file.rename(path / "images" / file.name)
    return path / "images"


def mot(path, frames):
    (path / "flight" / "gt").mkdir(parents=True)
    rows = [(k + 1, i, x + 1, y + 1, w, h, 1) for k, boxes in enumerate(frames) for i, (x, y, w, h) in enumerate(boxes)]
    (path / "flight" / "gt" / "gt.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path / "flight"


def mot_file(path, frames):
    return mot(path, frames) / "gt" / "gt.txt"


def box_lines(path, frames, separator=",", absent=""):
    lines = [separator.join(map(str, boxes[0])) if boxes else absent for boxes in frames]
    (path / "flight.txt").write_text("\n".join(lines) + "\n")
    return path / "flight.txt"


def box_lines_with_tabs(path, frames):
    return box_lines(path, frames, "\t", "NaN\tNaN\tNaN\tNaN")


def box_lines_with_spaces(path, frames):
    return box_lines(path, frames, " ", "0 0 0 0")


def box_table(path, frames):
    rows = [",".join(map(str, boxes[0])) if boxes else ",,," for boxes in frames]
    text = "frame,x,y,w,h\n" + "".join(f"{k},{row}\n" for k, row in enumerate(rows))
    (path / "flight.boxes.csv").write_text(text)
    return path / "flight.boxes.csv"


def points(path, frames):
    rows = [(k, x + (w - 1) / 2, y + (h - 1) / 2, 7) for k, boxes in enumerate(frames) for x, y, w, h in boxes]
    (path / "flight.csv").write_text("frame,x,y,amplitude\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path / "flight.csv"


def matlab(path, frames):
    """The least that a groundTruth object has: an unnamed array of bytes, which holds a structure of times and labels."""
    fields = b""
    for boxes in frames:
        rows = np.array([(x + 1, y + 1, w, h) for x, y, w, h in boxes], np.float64)
        cells = _head(6, len(boxes), 4 if boxes else 0) + _element(9, rows.tobytes("F"))
        fields += _element(14, _head(9, 1, 8) + _element(2, bytes(8))) + _element(14, cells)
    names = _element(5, struct.pack("<i", 8)) + _element(1, b"Time\0\0\0\0Label\0\0\0")
    table = _element(14, _head(2, len(frames), 1) + names + fields)
    space = bytes(8) + _element(14, _head(1, 1, 1) + table)
    array = _element(14, _head(9, 1, len(space)) + _element(2, space))
    text = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (path / "flight_LABELS.mat").write_bytes(text + array)
    return path / "flight_LABELS.mat"


def _element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _head(kind, *shape):
    """Class, shape and empty name of a MATLAB array."""
    return _element(6, struct.pack("<II", kind, 0)) + _element(5, struct.pack("<2i", *shape)) + _element(1, b"")


def _columns(boxes):
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    return rows[:, :2], rows[:, 2:]


class Format(NamedTuple):
    """by_image: it holds single images; one: it holds one target a frame at most; boxes; size: it says the frame's size."""

    by_image: bool = False
    one: bool = False
    boxes: bool = True
    size: bool = False


FORMATS = {
    json_lines: Format(size=True),
    masks: Format(by_image=True, size=True),
    voc: Format(by_image=True, size=True),
    coco: Format(by_image=True, size=True),
    yolo: Format(by_image=True, size=True),
    yolo_beside: Format(by_image=True, size=True),
    mot: Format(),
    mot_file: Format(),
    box_lines: Format(one=True),
    box_lines_with_tabs: Format(one=True),
    box_lines_with_spaces: Format(one=True),
    box_table: Format(one=True),
    points: Format(boxes=False),
    matlab: Format(),
}
"""Each writer with what its format can hold; a folder of frames with truth has tests of its own in test_csist.py."""
