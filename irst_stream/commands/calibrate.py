"""irst-stream calibrate: the settings of a sensor, measured on its frames."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from irst_stream.calibrate.calibration import Calibration, calibrate
from irst_stream.calibrate.images import calibrate_images
from irst_stream.calibrate.psf import places_of
from irst_stream.calibrate.settings_file import Origin, Tables, warnings_of, write_settings
from irst_stream.commands.conditioning import condition, conditioning_of
from irst_stream.commands.console import pluralise, positive_float, positive_int, print_line, show_log, working
from irst_stream.commands.footage import Footage, read_footage, receive_footage
from irst_stream.commands.links import add_link_options, add_policy_option, link_fields, validated_link
from irst_stream.commands.outputs import atomic_output, check_outputs, write_bytes
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.conditioning.nonuniformity import write_correction
from irst_stream.config import Config, files_of
from irst_stream.errors import UsageError
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.propose.clutter import write_clutter_map
from irst_stream.propose.mask import write_mask
from irst_stream.psf_field import write_psf
from irst_stream.settings import to_toml
from irst_stream.version import __version__

__all__ = ["MOST_FRAMES", "calibrate_footage", "check_report", "save", "set_up", "summary", "table_paths"]

MOST_FRAMES = 600  # of files
GRAPHICS_SHOWN = 3  # in the summary
EPILOG = """\
From frames alone: the PSF, by point-like spots; noise, gain and bad pixels; static clutter, burnt-in text and borders,
which become a mask; the threshold of the search; amplitudes and speeds. A minute of frames with single, small, bright
targets or stars in them tells most; a still camera's static clutter is learnt too. CONFIG.toml says what each figure rests
on and how sure it is. Where the scene moves, a raw sensor's pattern and bad pixels are told from it, and corrected; so is
noise that all pixels of a row or column share. Tables are written to the same folder: CONFIG.psf.npz, CONFIG.clutter.npz,
CONFIG.mask.png, CONFIG.correct.npz.
--correct measures on frames as a pipeline corrects them, and writes the correction too, its table to CONFIG.correct.npz.

  irst-stream calibrate CLIP --output C.toml --report C.html      then: irst-stream replay CLIP --config C.toml
  irst-stream correct --cold COLD --hot HOT --output T.npz  then: irst-stream calibrate CLIP --correct T.npz --output C.toml
  irst-stream calibrate --from tcp://10.0.0.7:5555 --seconds 60 --output C.toml      then: irst-stream run C.toml

Ctrl-C ends a feed, and calibrates by what has come. irst-stream docs your-own-sensor goes on from here."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Measure a sensor on its frames, without truth, and write the settings that follow."
    parser.epilog = EPILOG
    add_source_options(parser, needed=False)
    parser.add_argument("--from", dest="origin", metavar="ENDPOINT", help="calibrate on a live feed in place of PATH")
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="of a feed: receive for this long (default 60)")
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument(
        "--sensor", metavar="NAME", default="", help="of a feed or recording with several sensors: this one"
    )
    parser.add_argument(
        "--correct",
        metavar="TABLE.npz|CONFIG.toml",
        type=Path,
        help="correct the frames first: by this table, or by [correct] and [register] of this configuration",
    )
    parser.add_argument("--output", metavar="CONFIG.toml", type=Path, required=True, help="write the settings to this file")
    parser.add_argument(
        "--report", metavar="OUT.html|OUT.png", type=Path, help="draw what was used and found into this file"
    )
    parser.add_argument(
        "--frames", metavar="N", type=positive_int, help=f"frames used, at most (default {MOST_FRAMES}; of a feed: all)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    if (args.path is None) == (args.origin is None):
        raise UsageError("expected either PATH or --from ENDPOINT")
    if args.path is not None and args.seconds is not None:
        raise UsageError("--seconds: is for --from ENDPOINT; of files, --frames N says how many")
    check_report(args.report)
    args.psf, args.clutter, args.mask, args.correction = table_paths(args.output)
    known = conditioning_of(args.correct)
    inputs = [Path(name) for name in files_of(known).values()]
    check_outputs(args, *inputs, output=".toml", report="", psf="", clutter="", mask="", correction="")
    receive, held = "", {"pixel_bytes": 4} if args.correct else {}  # corrected frames are float32
    if args.origin is None:
        footage = read_footage(open_input(args), args.frames or MOST_FRAMES, sensor=args.sensor, single=args.single, **held)
    else:
        sensors = (args.sensor,) if args.sensor else ()
        link = validated_link(ReceiveSettings(**link_fields(args, args.origin), sensors=sensors), "--from")
        footage = receive_footage(link, args.policy, args.seconds or 60.0, args.frames, **held)
        receive = to_toml({"receive": [_stated(link)]}).strip()
    result = calibrate_footage(footage, known, single=args.single)
    origin = Origin(args.origin or str(args.path), footage.rate, footage.notes, receive, args.policy)
    save(result, args.output, origin)
    for line in summary(result, origin, footage.sizes):
        print_line(line)
    print_line(f"settings    {args.output}")
    if args.report:
        _write_report(args.report, result, origin, footage.sizes)
        print_line(f"report      {args.report}")
    if footage.fault:
        raise footage.fault
    return 0


def _stated(link: ReceiveSettings) -> dict[str, object]:
    """The fields of a link that differ from their defaults."""
    plain = asdict(ReceiveSettings(link.endpoint))
    return {"endpoint": link.endpoint} | {name: value for name, value in asdict(link).items() if value != plain[name]}


def check_report(report: Path | None) -> None:
    """Raise if a report is of no kind that can be written; None is accepted."""
    if report is not None and report.suffix.lower() not in (".html", ".png"):
        raise UsageError(f"--report: {report}: expected a name that ends in .html or .png")


def calibrate_footage(footage: Footage, known: Config | None = None, *, single: bool = False) -> Calibration:
    """Calibrate on footage, and show which step is under way.

    known: a configuration by which the frames are corrected and registered first; single: they are unrelated images.
    """
    single = single or len(footage.frames) == 1
    footage, conditioned = condition(footage, known or Config(), single=single)
    with working("calibrate") as step:
        full_scale = footage.full_scale
        if single:
            images = [frame.pixels for frame in footage.frames]
            return calibrate_images(images, full_scale=full_scale, conditioned=conditioned, step=step)
        rate_hz = footage.rate.hz
        return calibrate(footage.stack, rate_hz=rate_hz, full_scale=full_scale, conditioned=conditioned, step=step)


def save(result: Calibration, output: Path, origin: Origin) -> None:
    """Write the settings, and in files of the same folder the PSF, the correction, the clutter map and the mask, if any."""
    tables, (psf_path, clutter_path, mask_path, correction_path) = Tables(), table_paths(output)
    if result.conditioned.table is not None:
        tables = replace(tables, correction=correction_path.name)
        with atomic_output(correction_path) as part:
            write_correction(part, result.conditioned.table)
    if result.psf is not None and result.psf.needs_file:
        tables = replace(tables, psf=psf_path.name)
        with atomic_output(psf_path) as part:
            write_psf(part, result.psf.field)
    if result.clutter is not None:
        tables = replace(tables, clutter=clutter_path.name)
        with atomic_output(clutter_path) as part:
            write_clutter_map(part, result.clutter)
    if result.graphics.found:
        tables = replace(tables, mask=mask_path.name)
        with atomic_output(mask_path) as part:
            write_mask(part, result.graphics.excluded)
    write_bytes(output, write_settings(result, origin, tables, __version__).encode())


def _write_report(path: Path, result: Calibration, origin: Origin, sizes: str) -> None:
    """Draw what a calibration used and found, as HTML or as PNG by the file's suffix."""
    from irst_stream.calibrate.report import html_report, png_report

    lines = summary(result, origin, sizes, len(result.graphics.found))
    draw = html_report if path.suffix.lower() == ".html" else png_report
    write_bytes(path, draw(result, f"Calibration on {origin.name}", lines))


def table_paths(output: Path) -> tuple[Path, Path, Path, Path]:
    """Return the paths of the PSF's table, the clutter map, the mask and the correction's table of a file of settings."""
    names = (f"{output.stem}{ending}" for ending in (".psf.npz", ".clutter.npz", ".mask.png", ".correct.npz"))
    psf, clutter, mask, correction = map(output.with_name, names)
    return psf, clutter, mask, correction


def summary(c: Calibration, origin: Origin, sizes: str, graphics_shown: int = GRAPHICS_SHOWN) -> list[str]:
    """The main figures, one a line; sizes: of the frames, in words; graphics_shown: masked places named, at most."""
    rate = "unknown" if origin.rate.hz is None else f"{origin.rate.hz:.4g} frames/s, by {origin.rate.origin}"
    lines = [f"frames      {c.frames} of {sizes}" + ("" if c.unrelated else f"; rate {rate}")]
    if c.conditioned.corrects:
        lines.append(f"corrected   {c.conditioned.summary(c.noise.fixed)}")
    if c.psf is not None:
        psf = c.psf.psf
        table = "" if np.isnan(c.psf.misfits[1]) else f", {c.psf.misfits[1]:.1%} (table)"
        lines.append(
            f"PSF         {psf.sigma_x:.2f} x {psf.sigma_y:.2f} px, from {pluralise(c.psf.used, 'spot')}; misfit "
            f"{c.psf.misfits[0]:.1%} of the peak (Gaussian){table}; error {c.psf.error:.1%}"
        )
        if not c.psf.field.is_uniform:
            lines.append(f"            {places_of(c.psf)}")
    lines.append(_noise_line(c))
    refused = ", ".join(f"{count} {reason}" for reason, count in c.spots.rejected.items() if count)
    lines.append(f"spots       {len(c.spots)} used; refused: {refused or 'none'}")
    lines.append(f"regions     {np.median(c.counts) if len(c.counts) else 0:g} in a frame; threshold {c.propose.min_snr:g}")
    lines += [f"masked      {graphic}" for graphic in c.graphics.found[:graphics_shown]]
    if (more := len(c.graphics.found) - graphics_shown) > 0:
        lines.append(f"masked      {more} more; {c.graphics.share:.1%} of the frame in all; calibrate --report names each")
    return [*lines, *(f"warning     {text}" for text in warnings_of(c, origin))]


def _noise_line(c: Calibration) -> str:
    """Noise, gain and bad pixels, as far as the frames tell."""
    parts = [f"{c.noise.temporal:.3g} DN {'over time' if c.noise.over_time else 'from pixel to pixel'}"]
    if c.noise.over_time:
        parts.append(f"{c.noise.fixed:.3g} DN of pattern")
    if np.isfinite(c.noise.gain):
        parts.append(f"gain {c.noise.gain:.3g} DN^2 a DN")
    if len(c.noise.bad):
        parts.append(pluralise(len(c.noise.bad), "bad pixel"))
    few = "" if c.noise.over_time or c.unrelated else "; too few frames in order for noise over time"
    return f"noise       {', '.join(parts)}{few}"
