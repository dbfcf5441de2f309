"""irst-stream simulate: generated data sets with exact truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from irst_stream.commands.console import count, noun, number, pair, positive, print_line, progress, size, split_range
from irst_stream.errors import OutputError, UsageError
from irst_stream.io.manifest import Manifest, read_manifest
from irst_stream.settings import read_settings
from irst_stream.sim import SceneSettings
from irst_stream.sim.background import BACKGROUNDS
from irst_stream.sim.datasets import DEFAULT_RULES, SPLITS, Start
from irst_stream.sim.on_disk import GeneratedSet, patch_set, scene_set
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_config

__all__ = ["set_up"]

SHARES = {"seqcsist": (0.70, 0.15, 0.15), "csist100k": (0.80, 0.10, 0.10)}  # of train, val, test, as published

PATCHES = """\
Without --split the sequences are divided as published ({shares} % train, val, test), each split in its
own folder. The same seed gives the same bytes; the splits of one seed never share a draw. An interrupted
run goes on where it stopped when the same command is given again."""

SCENE = """\
Groups of targets enter, drift, cross and leave over a backdrop. OUT gets frames/ (PNG), truth.jsonl, poses.jsonl,
bad_pixels.json and manifest.json. Start from a configuration (--config, a TOML file or one of: {configs})
and change what you like; what no option names can be set in the file."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description = "Generates data sets with exact truth."
    kinds = parser.add_subparsers(metavar="KIND", required=True, title="kinds")
    _add_patches(kinds, "seqcsist", "--trajectories", "groups of 2 to 4 targets, 20 frames of 11 x 11 px each (SeqCSIST)")
    _add_patches(kinds, "csist100k", "--images", "single 11 x 11 px images of 1 to 5 targets (CSIST-100K)")
    _add_scene(kinds)


def _add_patches(kinds: Any, dataset: str, amount: str, summary: str) -> None:
    shares = " / ".join(f"{share:.0%}".rstrip("%") for share in SHARES[dataset])
    parser = kinds.add_parser(
        dataset, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=PATCHES.format(shares=shares)
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to fill")
    parser.add_argument(amount, dest="amount", type=count, required=True, metavar="N", help="how many")
    parser.add_argument("--split", choices=SPLITS, help="make this split only, all N of it")
    parser.add_argument(
        "--noise", type=split_range, default=(0.0, 0.0), metavar="DN",
        help="Gaussian noise, or LOW:HIGH for a level of its own for each sequence (default 0)",
    )  # fmt: skip
    parser.add_argument("--depth", type=int, choices=(8, 16), default=16, help="bits of a file's pixel (default 16)")
    parser.add_argument("--saturate", action="store_true", help="saturate at 255 DN in 16-bit files too, as 8 bits do")
    if dataset == "seqcsist":
        _add_rules(parser)
    _add_common(parser)
    parser.set_defaults(run=_run_patches, dataset=dataset)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    """What the publication of SeqCSIST leaves open."""
    rules = DEFAULT_RULES
    group = parser.add_argument_group("rules that the publication leaves open; the manifest states them")
    group.add_argument(
        "--start", choices=get_args(Start), default=rules.start,
        help="where paths start: anywhere; at whole pixels in x, as published (columns); in x and y (lattice)"
        f" (default {rules.start})",
    )  # fmt: skip
    group.add_argument(
        "--paths", type=lambda text: tuple(text.split(",")), default=rules.paths, metavar="KINDS",
        help=f"some of line, parabola, circle, wave (default {','.join(rules.paths)})",
    )  # fmt: skip
    group.add_argument("--step", type=positive, default=rules.step_px, metavar="PX", help="along x, a frame (default 0.04)")
    group.add_argument("--slope", type=number, default=rules.slope, help="of lines, at most (default 1)")
    group.add_argument(
        "--curvature",
        type=number,
        default=rules.curvature_per_px,
        metavar="PER_PX",
        help="of parabolas, at most (default 0.25)",
    )


def _add_scene(kinds: Any) -> None:
    parser = kinds.add_parser(
        "scene", help="full-frame sensor sequences", description="Full-frame sensor sequences.",
        epilog=SCENE.format(configs="scene-sky, scene-cloud"),
    )  # fmt: skip
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to fill")
    parser.add_argument("--frames", type=count, required=True, metavar="N", help="how many")
    parser.add_argument("--config", metavar="FILE", help="settings to start from")
    parser.add_argument("--name", default="scene", help="the sequence's name in all files (default scene)")
    for option, kind, metavar, _, summary in SCENE_OPTIONS:
        parser.add_argument(option, type=kind, metavar=metavar, help=summary)
    parser.add_argument("--background", choices=sorted(BACKGROUNDS), help="a ready-made backdrop")
    _add_common(parser)
    parser.set_defaults(run=_run_scene)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which of all possible sets (default 0)")
    parser.add_argument("--workers", type=count, metavar="N", help="processes at work (default: one for each core)")


SCENE_OPTIONS: list[tuple[str, Callable[[str], Any], str, tuple[str, ...], str]] = [
    ("--size", size, "WxH", ("sensor.width", "sensor.height"), "pixels (default 640x512)"),
    ("--rate", positive, "HZ", ("sensor.rate_hz",), "frames a second (default 100)"),
    ("--bits", int, "N", ("sensor.bits",), "8 to 16; full scale saturates (default 14)"),
    ("--sigma", positive, "PX", ("sensor.sigma_px",), "spread of the optics (default 0.5)"),
    ("--read-noise", number, "DN", ("sensor.read_noise_dn",), "read noise (default 4)"),
    ("--groups", int, "N", ("groups.groups",), "groups in flight at any time (default 5)"),
    ("--members", split_range, "LOW:HIGH", ("groups.members",), "targets in a group, 1 to 5 (default 2:5)"),
    ("--singles", int, "N", ("groups.singles",), "lone targets in flight at any time (default 2)"),
    (
        "--spacing",
        split_range,
        "LOW:HIGH",
        ("groups.spacing_px",),
        "px between neighbours (default 0.5:1.2)",
    ),
    ("--speed", split_range, "LOW:HIGH", ("groups.speed_px_s",), "px a second in the frame (default 5:40)"),
    ("--crossing", number, "SHARE", ("groups.crossing",), "share of groups that cross (default 0.3)"),
    ("--amplitude", split_range, "LOW:HIGH", ("groups.amplitude_dn",), "targets' amplitude, DN (default 220:250)"),
    ("--snr", split_range, "LOW:HIGH", ("groups.snr",), "targets' peak pixel over noise, in place of an amplitude"),
    (
        "--drift",
        pair,
        "X,Y",
        ("platform.drift_x_px_s", "platform.drift_y_px_s"),
        "px a second by which the world drifts; --speed includes it",
    ),
    ("--jitter", number, "PX", ("platform.jitter_px",), "platform jitter from frame to frame, rms"),
    ("--roll-jitter", number, "MRAD", ("platform.roll_jitter_mrad",), "platform roll from frame to frame, rms"),
]
"""Option, its type, what to call its value, the settings it sets, what it means."""


def _run_patches(args: argparse.Namespace) -> int:
    drawn = {"seed": args.seed, "noise": args.noise, "depth": args.depth, "saturate": args.saturate}
    if args.dataset == "seqcsist":
        drawn["rules"] = replace(
            DEFAULT_RULES,
            start=args.start,
            paths=args.paths,
            step_px=args.step,
            slope=args.slope,
            curvature_per_px=args.curvature,
        )
    counts = {args.split: args.amount} if args.split else _shares(args.dataset, args.amount)
    sets = [patch_set(args.out / split, args.dataset, n, split=split, **drawn) for split, n in counts.items() if n]
    return _fill(args.out, sets, args.workers)


def _run_scene(args: argparse.Namespace) -> int:
    settings = read_settings(find_config(args.config, "scene"), SceneSettings) if args.config else SceneSettings()
    if args.background:
        settings = replace(settings, background=BACKGROUNDS[args.background])
    for option, _, _, places, _ in SCENE_OPTIONS:
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None:
            for place, part in zip(places, value if len(places) > 1 else (value,), strict=True):
                settings = _with(settings, place, part)
    if args.amplitude and args.snr:
        raise UsageError("--amplitude and --snr: each decides how bright the targets are; give one of them")
    if args.amplitude:
        settings = replace(settings, groups=replace(settings.groups, snr=None))
    return _fill(args.out, [scene_set(args.out, settings, args.frames, seed=args.seed, name=args.name)], args.workers)


def _with(settings: SceneSettings, place: str, value: Any) -> SceneSettings:
    """The settings with one of them changed; place is like "sensor.bits"."""
    table, key = place.split(".")
    if key == "members":
        if not all(part.is_integer() for part in value):
            raise UsageError(f"--members: expected whole numbers, got {value[0]}:{value[1]}")
        value = (int(value[0]), int(value[1]))
    return replace(settings, **{table: replace(getattr(settings, table), **{key: value})})


def _shares(dataset: str, amount: int) -> dict[str, int]:
    """How many of `amount` go to each split; the first takes what rounding leaves."""
    val, test = (round(amount * share) for share in SHARES[dataset][1:])
    return dict(zip(SPLITS, (amount - val - test, val, test), strict=True))


def _fill(out: Path, sets: list[GeneratedSet], workers: int | None) -> int:
    """Makes sets, all claimed before any is begun."""
    for s in sets:
        _check_siblings(out, s)
    for s in sets:
        s.claim()
    began = time.monotonic()
    frames = sum(s.manifest.frames for s in sets)
    missing = [(s, s.missing()) for s in sets]
    left = sum(job.frames for _, jobs in missing for job in jobs)
    if not any(jobs for _, jobs in missing):
        print_line(f"{out}: complete, {noun(frames, 'frame')}; nothing to do")
        return 0
    if left < frames:
        print_line(f"{out}: {frames - left} of {frames} frames are there; going on")
    with progress("simulate", left) as done:
        for s, jobs in missing:
            s.fill(jobs, workers or usable_cores(), done)
    seconds = time.monotonic() - began
    print_line(f"{out}: {noun(frames, 'frame')}, {left} made in {seconds:.1f} s. Look: irst-stream inspect {out}")
    return 0


def _check_siblings(out: Path, wanted: GeneratedSet) -> None:
    """Refuses splits of one folder that do not belong together."""
    for split in SPLITS:
        folder = out / split
        found = read_manifest(folder) if wanted.folder.parent == out and folder != wanted.folder else None
        if found and found != wanted.manifest and _common(found) != _common(wanted.manifest):
            raise OutputError(f"{folder}: is a split of a different set; choose another folder than {out}")


def _common(manifest: Manifest) -> tuple[object, ...]:
    """What all splits of a set share."""
    shared = {key: value for key, value in manifest.parameters.items() if key not in ("split", "count")}
    return manifest.dataset, manifest.irst_stream, shared
