"""irst-stream calibrate: the settings of a sensor, measured on its frames."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from irst_stream.calibrate.calibration import Calibration, calibrate
from irst_stream.calibrate.images import calibrate_images
from irst_stream.calibrate.settings_file import warnings_of, write_settings
from irst_stream.commands.console import positive_int, print_line
from irst_stream.commands.outputs import atomic_output, check_output, write_bytes
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.errors import UsageError
from irst_stream.io.files import FileSource
from irst_stream.io.recording.recorder import Recording
from irst_stream.point_spread import write_psf
from irst_stream.propose.clutter import write_clutter_map
from irst_stream.types import Frame, Pixels
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
    check_output(args.output, args.path, suffix=".toml")
    source = open_input(args)
    frames = read_frames(source, args.frames)
    images, full_scale = [frame.pixels for frame in frames], frames[0].full_scale
    if args.single or len(frames) == 1:
        result = calibrate_images(images, full_scale=full_scale)
    else:
        result = calibrate(stack_of(images, source.path), rate_hz=source.rate_hz, full_scale=full_scale)
    save(result, args.output, str(args.path))
    for line in summary(result):
        print_line(line)
    print_line(f"settings    {args.output}")
    return 0


def read_frames(source: FileSource | Recording, most: int) -> list[Frame]:
    """The first frames of a source."""
    frames: list[Frame] = []
    held = 0
    for frame in islice(source, most):
        frames.append(frame)
        held += frame.pixels.nbytes
        if held > MAX_BYTES:
            break
    if not frames:
        raise UsageError(f"{source.path}: no frames")
    height, width = np.min([frame.pixels.shape for frame in frames], axis=0)
    if min(height, width) < MIN_SIDE:
        raise UsageError(
            f"{source.path}: a frame of {width} x {height} px; calibration needs {MIN_SIDE} px along each axis"
        )
    return frames


def stack_of(images: list[Pixels], path: Path) -> Pixels:
    """The frames of one sequence as one array (T, H, W)."""
    kinds = {(image.shape, image.dtype) for image in images}
    if len(kinds) > 1:
        raise UsageError(f"{path}: frames differ in size or type; with --single each may be of its own")
    return np.stack(images)


def save(result: Calibration, output: Path, source: str) -> None:
    """Write the settings, and beside them the PSF's table and the clutter map where there are any."""
    psf_name = clutter_name = ""
    if result.psf is not None and result.psf.measured:
        psf_name = f"{output.stem}.psf.npz"
        with atomic_output(output.with_name(psf_name)) as part:
            write_psf(part, result.psf.psf)
    if result.clutter is not None:
        clutter_name = f"{output.stem}.clutter.npz"
        with atomic_output(output.with_name(clutter_name)) as part:
            write_clutter_map(part, result.clutter)
    write_bytes(output, write_settings(result, source, psf_name, clutter_name, __version__).encode())


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
