"""irst-stream simulate: generate data sets with exact truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from irst_stream.commands.console import (
    finite_float,
    image_size,
    low_high,
    pluralise,
    positive_float,
    positive_int,
    print_line,
    progress,
    xy_pair,
)
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

SHARES = {"seqcsist": (0.70, 0.15, 0.15), "csist100k": (0.80, 0.10, 0.10)}  # published shares of train, val, test

PATCHES_EPILOG = """\
Without --split, the sequences are divided as published ({shares} % train, val, test), each split in its
own folder. The same seed gives the same bytes; the splits of one seed never share a random draw. To continue an
interrupted run, repeat the command."""

SCENE_EPILOG = """\
Groups of targets enter, drift, cross and leave in front of a background. OUT receives frames/ (PNG), truth.jsonl,
poses.jsonl, bad_pixels.json and manifest.json. Settings come from --config (a TOML file or one of: {configs});
options override them. Settings without an option can be changed in the file."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Generate data sets with exact truth."
    kinds = parser.add_subparsers(metavar="KIND", required=True, title="kinds")
    _add_patches(kinds, "seqcsist", "--trajectories", "groups of 2 to 4 targets, 20 frames of 11 x 11 px each (SeqCSIST)")
    _add_patches(kinds, "csist100k", "--images", "single 11 x 11 px images of 1 to 5 targets (CSIST-100K)")
    _add_scene(kinds)


def _add_patches(kinds: Any, dataset: str, amount: str, summary: str) -> None:
    shares = " / ".join(f"{share:.0%}".rstrip("%") for share in SHARES[dataset])
    parser = kinds.add_parser(
        dataset,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=PATCHES_EPILOG.format(shares=shares),
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(amount, dest="amount", type=positive_int, required=True, metavar="N", help="number of sequences")
    parser.add_argument("--split", choices=SPLITS, help="generate N sequences of this split only")
    parser.add_argument(
        "--noise", type=low_high, default=(0.0, 0.0), metavar="DN",
        help="standard deviation of Gaussian noise, DN; LOW:HIGH draws one per sequence (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--depth", type=int, choices=(8, 16), default=16, help="bits per pixel of the PNG files (default 16)"
    )
    parser.add_argument("--saturate", action="store_true", help="saturate at 255 DN in 16-bit files too")
    if dataset == "seqcsist":
        _add_rules(parser)
    _add_common(parser)
    parser.set_defaults(run=_run_patches, dataset=dataset)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    """Add the options for what the publication of SeqCSIST leaves open."""
    rules = DEFAULT_RULES
    group = parser.add_argument_group("rules that the publication leaves open (recorded in the manifest)")
    group.add_argument(
        "--start", choices=get_args(Start), default=rules.start,
        help="where paths start: anywhere; at whole pixels in x, as published (columns); in x and y (lattice)"
        f" (default {rules.start})",
    )  # fmt: skip
    group.add_argument(
        "--paths", type=lambda text: tuple(text.split(",")), default=rules.paths, metavar="KINDS",
        help=f"shapes of paths: line, parabola, circle, wave (default {','.join(rules.paths)})",
    )  # fmt: skip
    group.add_argument(
        "--step",
        type=positive_float,
        default=rules.step_px,
        metavar="PX",
        help="motion along x, px per frame (default 0.04)",
    )
    group.add_argument("--slope", type=finite_float, default=rules.slope, help="largest slope of lines (default 1)")
    group.add_argument(
        "--curvature",
        type=finite_float,
        default=rules.curvature_per_px,
        metavar="PER_PX",
        help="largest curvature of parabolas, 1/px (default 0.25)",
    )


def _add_scene(kinds: Any) -> None:
    parser = kinds.add_parser(
        "scene", help="full-frame sensor sequences", description="Full-frame sensor sequences.",
        epilog=SCENE_EPILOG.format(configs="scene-sky, scene-cloud"),
    )  # fmt: skip
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--frames", type=positive_int, required=True, metavar="N", help="number of frames")
    parser.add_argument("--config", metavar="FILE", help="settings: a TOML file, or the name of a bundled scene")
    parser.add_argument("--name", default="scene", help="name of the sequence in all files (default scene)")
    for option, kind, metavar, _, summary in SCENE_OPTIONS:
        parser.add_argument(option, type=kind, metavar=metavar, help=summary)
    parser.add_argument("--background", choices=sorted(BACKGROUNDS), help="predefined background")
    _add_common(parser)
    parser.set_defaults(run=_run_scene)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random draws (default 0)")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="parallel processes (default: one per core)")


SCENE_OPTIONS: list[tuple[str, Callable[[str], Any], str, tuple[str, ...], str]] = [
    ("--size", image_size, "WxH", ("sensor.width", "sensor.height"), "frame size, px (default 640x512)"),
    ("--rate", positive_float, "HZ", ("sensor.rate_hz",), "frame rate, frames/s (default 100)"),
    ("--bits", int, "N", ("sensor.bits",), "bits per pixel, 8 to 16; saturates at full scale (default 14)"),
    ("--sigma", positive_float, "PX", ("sensor.sigma_px",), "sigma of the point-spread function, px (default 0.5)"),
    ("--axis-ratio", positive_float, "R", ("sensor.axis_ratio",), "longer over shorter axis of the PSF (default 1)"),
    (
        "--axis-angle",
        finite_float,
        "DEG",
        ("sensor.axis_angle_deg",),
        "direction of the longer axis, from x towards y, degrees (default 0)",
    ),
    ("--psf", str, "FILE", ("sensor.psf_table",), "PSF that calibrate measured, .psf.npz, in place of the three above"),
    ("--read-noise", finite_float, "DN", ("sensor.read_noise_dn",), "read noise, DN (default 4)"),
    ("--groups", int, "N", ("groups.groups",), "groups in the scene at any time (default 5)"),
    ("--members", low_high, "LOW:HIGH", ("groups.members",), "targets per group, 1 to 5 (default 2:5)"),
    ("--singles", int, "N", ("groups.singles",), "single targets in the scene at any time (default 2)"),
    (
        "--spacing",
        low_high,
        "LOW:HIGH",
        ("groups.spacing_px",),
        "distance between neighbours in a group, px (default 0.5:1.2)",
    ),
    ("--speed", low_high, "LOW:HIGH", ("groups.speed_px_s",), "speed in the frame, px/s (default 5:40)"),
    ("--crossing", finite_float, "SHARE", ("groups.crossing",), "fraction of groups that cross (default 0.3)"),
    ("--amplitude", low_high, "LOW:HIGH", ("groups.amplitude_dn",), "amplitude of targets, DN (default 220:250)"),
    ("--snr", low_high, "LOW:HIGH", ("groups.snr",), "peak pixel of targets over noise, instead of --amplitude"),
    (
        "--drift",
        xy_pair,
        "X,Y",
        ("platform.drift_x_px_s", "platform.drift_y_px_s"),
        "drift of the scene, px/s; --speed includes it",
    ),
    ("--jitter", finite_float, "PX", ("platform.jitter_px",), "platform jitter from frame to frame, px rms"),
    ("--roll-jitter", finite_float, "MRAD", ("platform.roll_jitter_mrad",), "platform roll from frame to frame, mrad rms"),
]
"""Option, type, metavar, the settings it sets, help."""


def _run_patches(args: argparse.Namespace) -> int:
    options = {"seed": args.seed, "noise": args.noise, "depth": args.depth, "saturate": args.saturate}
    if args.dataset == "seqcsist":
        options["rules"] = replace(
            DEFAULT_RULES,
            start=args.start,
            paths=args.paths,
            step_px=args.step,
            slope=args.slope,
            curvature_per_px=args.curvature,
        )
    counts = {args.split: args.amount} if args.split else _shares(args.dataset, args.amount)
    sets = [patch_set(args.out / split, args.dataset, n, split=split, **options) for split, n in counts.items() if n]
    return _fill(args.out, sets, args.workers)


def _run_scene(args: argparse.Namespace) -> int:
    settings = _scene_settings(find_config(args.config, "scene")) if args.config else SceneSettings()
    if args.background:
        settings = replace(settings, background=BACKGROUNDS[args.background])
    for option, _, _, places, _ in SCENE_OPTIONS:
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None:
            for place, part in zip(places, value if len(places) > 1 else (value,), strict=True):
                settings = _with_setting(settings, place, part)
    if args.amplitude and args.snr:
        raise UsageError("--amplitude and --snr: both set the brightness of targets; give one of them")
    if args.amplitude:
        settings = replace(settings, groups=replace(settings.groups, snr=None))
    return _fill(args.out, [scene_set(args.out, settings, args.frames, seed=args.seed, name=args.name)], args.workers)


def _scene_settings(path: Path) -> SceneSettings:
    """A scene's settings; the PSF's file is relative to their own folder."""
    settings = read_settings(path, SceneSettings)
    table = settings.sensor.psf_table
    return _with_setting(settings, "sensor.psf_table", str(path.parent / table)) if table else settings


def _with_setting(settings: SceneSettings, place: str, value: Any) -> SceneSettings:
    """Return settings with one value replaced; place is its dotted path, e.g. "sensor.bits"."""
    table, key = place.split(".")
    if key == "members":
        if not all(part.is_integer() for part in value):
            raise UsageError(f"--members: expected whole numbers, got {value[0]}:{value[1]}")
        value = (int(value[0]), int(value[1]))
    return replace(settings, **{table: replace(getattr(settings, table), **{key: value})})


def _shares(dataset: str, amount: int) -> dict[str, int]:
    """Divide `amount` among the splits by the published shares; train takes the rounding remainder."""
    val, test = (round(amount * share) for share in SHARES[dataset][1:])
    return dict(zip(SPLITS, (amount - val - test, val, test), strict=True))


def _fill(out: Path, sets: list[GeneratedSet], workers: int | None) -> int:
    """Generate the missing files of sets; all folders are claimed before any is written."""
    for s in sets:
        _check_siblings(out, s)
    for s in sets:
        s.claim()
    began = time.monotonic()
    frames = sum(s.manifest.frames for s in sets)
    missing = [(s, s.missing()) for s in sets]
    remaining = sum(job.frames for _, jobs in missing for job in jobs)
    if not any(jobs for _, jobs in missing):
        print_line(f"{out}: complete, {pluralise(frames, 'frame')}; nothing to do")
        return 0
    if remaining < frames:
        print_line(f"{out}: {frames - remaining} of {frames} frames exist; continuing")
    with progress("simulate", remaining) as done:
        for s, jobs in missing:
            s.fill(jobs, workers or usable_cores(), done)
    seconds = time.monotonic() - began
    print_line(f"{out}: {pluralise(frames, 'frame')}, {remaining} made in {seconds:.1f} s. View: irst-stream inspect {out}")
    return 0


def _check_siblings(out: Path, wanted: GeneratedSet) -> None:
    """Raise OutputError if the folder holds splits of a different set."""
    for split in SPLITS:
        folder = out / split
        found = read_manifest(folder) if wanted.folder.parent == out and folder != wanted.folder else None
        if found and found != wanted.manifest and _shared_parameters(found) != _shared_parameters(wanted.manifest):
            raise OutputError(f"{folder}: is a split of a different set; choose another folder than {out}")


def _shared_parameters(manifest: Manifest) -> tuple[object, ...]:
    """The parts of a manifest that are equal in all splits of a set."""
    shared = {key: value for key, value in manifest.parameters.items() if key not in ("split", "count")}
    return manifest.dataset, manifest.irst_stream, shared
