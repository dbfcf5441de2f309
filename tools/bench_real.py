"""What irst-stream makes of sensors that nobody here made, calibrated on their own frames.

Run it with .venv/bin/python tools/bench_real.py [FOLDER]. FOLDER (default: shared/real beside the checkout) holds, at any
depth, clips NAME.mp4 or NAME.avi with boxes NAME.boxes.csv, beside them or in tools/boxes, and star fields NAME.npy with
truth NAME.truth.jsonl; stacks *_pairs.npy of small images are answered by the calibration of the field beside them. For
each clip: irst-stream calibrate, irst-stream replay with what that wrote, irst-stream score; nothing is set by hand. Every
16th frame of the clips with boxes beside them is one folder of single images, answered with --single. Prints one row a
clip, their mean, the single images and the fields; writes out/bench_real.json.

--shake PX: clips are shaken first, each frame moved by as much along x and y, by parts of a pixel, and rolled by
up to 0.2 degrees, by draws of --seed; what leaves the frame is cut off. --frames N and --clips WORD,... take less of them.
"""

import argparse
import csv
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from subprocess import run
from typing import Any

import cv2
import numpy as np
from bench_data import describe_machine

from irst_stream.io.files import open_source
from irst_stream.score.cso_map import cso_map

OUT = Path("out/bench_real.json")
BOXES = Path(__file__).parent / "boxes"  # of clips that come without labels
REAL = Path(__file__).parents[2] / "shared" / "real"
RADIUS_PX = 3.0
STILL_STRIDE = 16  # frames of a clip from one single image to the next
COLUMNS = ("found", "false", "one", "auc", "tracked", "one_id", "false_tracks", "p50_ms", "p99_ms", "calibrate_s")
ONE_CORE = os.environ | {"OMP_NUM_THREADS": "1"}
SHAKE_ROLL_DEG = 0.2
STAR_PX, ALONE_PX = 1.0, 2.0  # a star is found within the first, and is one star if nothing else is within the second


def irst_stream(*words: object) -> str:
    """Run one command on one core; return what it printed."""
    command = [sys.executable, "-m", "irst_stream.cli", *map(str, words)]
    done = run(command, capture_output=True, text=True, check=False, env=ONE_CORE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:])}: {done.stderr.strip()}")
    return done.stdout


def shaken(clip: Path, truth: Path, folder: Path, shake_px: float, seed: int, most: int | None) -> tuple[Path, Path]:
    """Write a clip's first frames as seen from a platform that shakes, and its boxes there; return both paths."""
    rng, margin = np.random.default_rng([seed, *clip.stem.encode()]), int(np.ceil(shake_px)) + 2
    frames = [frame.pixels for frame in open_source(clip)][:most]
    height, width = frames[0].shape
    middle, out, moved = np.array([width - 1, height - 1]) / 2, [], []
    for pixels in frames:
        shift, roll = rng.uniform(-shake_px, shake_px, 2), np.radians(rng.uniform(-SHAKE_ROLL_DEG, SHAKE_ROLL_DEG))
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        moved.append(np.column_stack([turn, middle + shift - turn @ middle]))
        seen = cv2.warpAffine(pixels, moved[-1], (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        out.append(seen[margin : height - margin, margin : width - margin])
    path, boxes = folder / f"{clip.stem}.npy", folder / f"{clip.stem}.boxes.csv"
    np.save(path, np.stack(out))
    with truth.open() as given, boxes.open("w", newline="") as file:
        rows = csv.DictReader(given)
        writer = csv.DictWriter(file, rows.fieldnames or [])
        writer.writeheader()
        for row in rows:
            if (k := int(row["frame"])) < len(moved):
                half = np.array([float(row["w"]), float(row["h"])]) / 2
                x, y = (
                    moved[k][:, :2] @ (np.array([float(row["x"]), float(row["y"])]) + half) + moved[k][:, 2] - half - margin
                )
                writer.writerow(row | {"x": f"{x:.2f}", "y": f"{y:.2f}"})
    return path, boxes


def boxes_of(clip: Path) -> Path:
    """Where a clip's labels are, beside it or in tools/boxes; a path that is not there if it has none."""
    beside = clip.with_suffix(".boxes.csv")
    return beside if beside.is_file() else BOXES / beside.name


def calibrated(source: Path, folder: Path, *words: object) -> tuple[Path, float]:
    """Calibrate on a source; return the configuration and how long it took, s."""
    config, began = folder / f"{source.stem}.toml", time.perf_counter()
    irst_stream("calibrate", source, "--output", config, *words)
    return config, time.perf_counter() - began


def bench_clip(clip: Path, truth: Path, folder: Path, *words: object) -> dict[str, float]:
    """Calibrate, replay and score one clip; words: options of both commands."""
    config, seconds = calibrated(clip, folder, *words)
    found, tracks, scores = (folder / f"{clip.stem}.{what}" for what in ("d.jsonl", "t.jsonl", "json"))
    printed = irst_stream("replay", clip, "--config", config, "--detections", found, "--tracks", tracks, *words)
    times = re.search(r"([\d.]+) ms per window \(p50\), ([\d.]+) ms \(p99\)", printed)
    row = {
        "calibrate_s": seconds,
        "p50_ms": float(times[1]) if times else np.nan,
        "p99_ms": float(times[2]) if times else np.nan,
    }
    irst_stream("score", found, truth, "--radius", RADIUS_PX, "--json", scores)
    hits = json.loads(scores.read_text())["scores"]["hits"]["box"]
    row |= {"found": hits["found"], "false": hits["false_per_frame"], "one": hits["exactly_one"], "auc": hits["roc_area"]}
    irst_stream("score", tracks, truth, "--radius", RADIUS_PX, "--json", scores)
    held = json.loads(scores.read_text())["scores"]["holding"]["box"]
    row |= {"tracked": held["tracked"], "one_id": held["one_id"], "false_tracks": held["false_per_frame"]}
    return {name: np.nan if value is None else float(value) for name, value in row.items()}


def bench_stills(clips: Iterable[Path], folder: Path) -> dict[str, float]:
    """Take single frames out of labelled clips; calibrate on them all, answer and score each by itself."""
    stills, truth = folder / "stills", folder / "stills.coco.json"
    stills.mkdir()
    images, boxes = [], []
    for clip in clips:
        with clip.with_suffix(".boxes.csv").open() as file:
            box_of = {int(row["frame"]): row for row in csv.DictReader(file)}
        for number, frame in enumerate(open_source(clip)):
            if number % STILL_STRIDE == STILL_STRIDE // 2 and number in box_of:
                name = f"{clip.stem}_{number:04d}.png"
                cv2.imwrite(str(stills / name), frame.pixels)
                images.append({"id": len(images), "file_name": name})
                box = [float(box_of[number][key]) for key in "xywh"]
                boxes.append({"image_id": images[-1]["id"], "bbox": box})
    truth.write_text(json.dumps({"images": images, "annotations": boxes, "categories": []}))
    config, found, scores = folder / "singles.toml", folder / "stills.jsonl", folder / "stills.json"
    irst_stream("calibrate", stills, "--single", "--output", config)
    irst_stream("replay", stills, "--single", "--config", config, "--detections", found)
    irst_stream("score", found, truth, "--radius", RADIUS_PX, "--json", scores)
    hits = json.loads(scores.read_text())["scores"]["hits"]["box"]
    return {"images": len(images), **{name: hits[name] for name in ("found", "false_per_frame", "exactly_one", "roc_area")}}


def answers(path: Path) -> list[np.ndarray]:
    """The detections (N, 3) x, y, score of each image of a stack, in order."""
    images: dict[int, np.ndarray] = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        if "detections" in record:
            number = int(record["sequence"].rsplit("_", 1)[1]) if "_0" in record["sequence"] else record["index"]
            rows = [(d["x"], d["y"], d["score"]) for d in record["detections"]]
            images[number] = np.array(rows, float).reshape(-1, 3)
    return [images.get(k, np.zeros((0, 3))) for k in range(max(images, default=-1) + 1)]


def truths(path: Path) -> list[np.ndarray]:
    """The true places (N, 2) of each image."""
    lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [np.array([(t["x"], t["y"]) for t in line["truth"]], float).reshape(-1, 2) for line in lines if "truth" in line]


def bench_field(field: Path, folder: Path) -> dict[str, Any]:
    """Calibrate on a field of stars; answer it, and the stack of pairs beside it."""
    config, seconds = calibrated(field, folder)
    out, row = folder / "stars.jsonl", {"calibrate_s": seconds}
    irst_stream("replay", field, "--config", config, "--detections", out)
    [stars], [found] = truths(field.with_suffix(".truth.jsonl")), answers(out)
    apart = np.hypot(*(stars[:, None] - found[None, :, :2]).transpose(2, 0, 1))
    nearest = apart.min(axis=1)
    row |= {
        "stars_found": float((nearest < STAR_PX).mean()),
        "stars_alone": float(((apart < ALONE_PX).sum(axis=1) == 1).mean()),
    }
    row["stars_error_p50_px"] = float(np.median(nearest[nearest < STAR_PX]))
    for pairs in sorted(field.parent.glob("*_pairs.npy")):
        irst_stream("replay", pairs, "--single", "--config", config, "--detections", out)
        real = truths(pairs.with_suffix(".truth.jsonl"))
        told = answers(out)
        told += [np.zeros((0, 3))] * (len(real) - len(told))
        row["pairs_cso_map"] = 100 * cso_map(told, real).map
        row["pairs_right_number"] = float(np.mean([len(a) == len(b) for a, b in zip(told, real, strict=True)]))
    return row


def print_clips(rows: dict[str, dict[str, float]]) -> None:
    """Print one row a clip, and their mean."""
    print(f"{'clip':24}" + "".join(f"{name:>13}" for name in COLUMNS))
    mean = {name: float(np.nanmean([row[name] for row in rows.values()])) for name in COLUMNS}
    for clip, row in [*rows.items(), ("mean", mean)]:
        print(f"{clip:24}" + "".join(f"{row[name]:13.3f}" for name in COLUMNS), flush=True)


def fields_of(folder: Path) -> Iterable[Path]:
    """Star fields: arrays with truth that are no stacks of pairs."""
    arrays = (path for path in sorted(folder.rglob("*.npy")) if not path.stem.endswith("_pairs"))
    return (path for path in arrays if path.with_suffix(".truth.jsonl").is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=REAL)
    parser.add_argument("--shake", type=float, default=0.0, metavar="PX")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, metavar="N", help="of each shaken clip, at most")
    parser.add_argument("--clips", default="", metavar="WORD,...", help="only clips whose names hold one of these")
    args = parser.parse_args()
    folder = args.folder
    films = sorted([*folder.rglob("*.mp4"), *folder.rglob("*.avi")], key=lambda path: path.name)
    clips = [clip for clip in films if boxes_of(clip).is_file()]
    clips = [clip for clip in clips if any(word in clip.stem for word in args.clips.split(","))]
    fields = [] if args.shake or args.clips else list(fields_of(folder))
    if not clips and not fields:
        raise SystemExit(
            f"{folder}: expected clips NAME.mp4 or .avi with NAME.boxes.csv, or fields NAME.npy with NAME.truth.jsonl"
        )
    with tempfile.TemporaryDirectory() as made:
        if args.shake:
            rows = {}
            for clip in clips:
                seen = shaken(clip, boxes_of(clip), Path(made), args.shake, args.seed, args.frames)
                rows[clip.stem] = bench_clip(*seen, Path(made), "--rate", 30)
        else:
            rows = {clip.stem: bench_clip(clip, boxes_of(clip), Path(made)) for clip in clips}
        labelled = [clip for clip in clips if clip.with_suffix(".boxes.csv").is_file()]
        stills = bench_stills(labelled, Path(made)) if labelled and not args.shake else {}
        stars = {field.stem: bench_field(field, Path(made)) for field in fields}
    if rows:
        print_clips(rows)
    for name, row in [*([("single images", stills)] if stills else []), *stars.items()]:
        print(name, ", ".join(f"{key} {'-' if value is None else f'{value:.3f}'}" for key, value in row.items()))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(
        json.dumps({"machine": describe_machine(), "clips": rows, "stills": stills, "stars": stars}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
