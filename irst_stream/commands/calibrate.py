"""irst-stream calibrate: the settings of a sensor, measured on its frames."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from irst_stream.calibrate.calibration import Calibration, calibrate
from irst_stream.calibrate.settings_file import warnings_of, write_settings
from irst_stream.commands.console import positive_int, print_line
from irst_stream.commands.outputs import atomic_output, check_outputs, write_bytes
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.errors import UsageError
from irst_stream.io.files import FileSource
from irst_stream.io.recording.recorder import Recording
from irst_stream.point_spread import write_psf
from irst_stream.propose.clutter import write_clutter_map
from irst_stream.types import Frame
from irst_stream.version import __version__

__all__ = ["set_up"]

MIN_SIDE = 32  # px: smaller frames are patches
MAX_BYTES = 600_000_000  # of frames held


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Measure a sensor on its frames, without truth, and write the settings that follow."
    add_source_options(parser)
    parser.add_argument("--output", metavar="CONFIG.toml", type=Path, required=True, help="write the settings to this file")
    parser.add_argument("--frames", metavar="N", type=positive_int, default=600, help="frames used (default 600)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    args.psf, args.clutter = beside(args.output)
    check_outputs(args, output=".toml", psf="", clutter="")
    source = open_input(args)
    frames = read_stack(source, args.frames)
    stack = np.stack([frame.pixels for frame in frames])
    result = calibrate(stack, unrelated=len(frames) == 1, rate_hz=source.rate_hz, full_scale=frames[0].full_scale)
    save(result, args.output, str(args.path))
    for line in summary(result):
        print_line(line)
    print_line(f"settings    {args.output}")
    return 0


def read_stack(source: FileSource | Recording, most: int) -> list[Frame]:
    """The first frames of a source's first sequence, all of one size."""
    frames: list[Frame] = []
    held = 0
    for frame in islice(source, most):
        if frames and (frame.pixels.shape, frame.pixels.dtype) != (frames[0].pixels.shape, frames[0].pixels.dtype):
            raise UsageError(f"{source.path}: frames differ in size")
        frames.append(frame)
        held += frame.pixels.nbytes
        if held > MAX_BYTES:
            break
    if not frames:
        raise UsageError(f"{source.path}: no frames")
    if min(frames[0].pixels.shape) < MIN_SIDE:
        raise UsageError(f"{source.path}: frames of {frames[0].pixels.shape[1]} x {frames[0].pixels.shape[0]} px")
    return frames


def save(result: Calibration, output: Path, source: str) -> None:
    """Write the settings, and beside them the PSF's table and the clutter map where there are any."""
    psf_name = clutter_name = ""
    psf_path, clutter_path = beside(output)
    if result.psf is not None and result.psf.measured:
        psf_name = psf_path.name
        with atomic_output(psf_path) as part:
            write_psf(part, result.psf.psf)
    if result.clutter is not None:
        clutter_name = clutter_path.name
        with atomic_output(clutter_path) as part:
            write_clutter_map(part, result.clutter)
    write_bytes(output, write_settings(result, source, psf_name, clutter_name, __version__).encode())


def beside(output: Path) -> tuple[Path, Path]:
    """Return the paths of the PSF's table and of the clutter map of a file of settings."""
    return output.with_name(f"{output.stem}.psf.npz"), output.with_name(f"{output.stem}.clutter.npz")


def summary(c: Calibration) -> list[str]:
    """The main figures, one a line."""
    lines = [f"frames      {c.frames} of {c.shape[1]} x {c.shape[0]} px"]
    if c.psf is not None:
        psf = c.psf.psf
        lines.append(
            f"PSF         {psf.sigma_x:.2f} x {psf.sigma_y:.2f} px, from {c.psf.used} spots; misfit "
            f"{c.psf.misfits[0]:.1%} of the peak (Gaussian), {c.psf.misfits[1]:.1%} (table); error {c.psf.error:.1%}"
        )
    lines.append(
        f"noise       {c.noise.temporal:.3g} DN over time, {c.noise.fixed:.3g} DN of pattern, gain {c.noise.gain:.3g}"
    )
    lines.append(f"spots       {len(c.spots)} used, refused: {c.spots.rejected}")
    lines.append(f"regions     {np.median(c.counts):g} in a frame; threshold {c.propose.min_snr:g}")
    return [*lines, *(f"warning     {text}" for text in warnings_of(c))]
