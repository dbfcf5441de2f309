"""irst-stream correct: gain and offset of each pixel, from frames of one or two uniform levels."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from irst_stream.commands.console import pluralise, print_line, progress
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.conditioning.nonuniformity import CorrectionTable, LevelMean, one_point, two_point, write_correction
from irst_stream.errors import UsageError
from irst_stream.io.files import open_source
from irst_stream.settings import to_toml

__all__ = ["set_up"]

EPILOG = """\
COLD and HOT are frames of a uniform scene, a blackbody or a cap before the lens, at two levels that enclose those of use:
files, folders or recordings, 100 frames or more each. Without --hot only offsets are measured. Pixels that do not respond,
or that are far noisier than others, are bad: they are left out from then on. Without --hot, pixels that never change or lie
far from their neighbours are taken for those.

The table counts through a configuration:
  [correct]
  table = "TABLE.npz"

which irst-stream calibrate RECORDING --correct TABLE.npz writes with all else that it measures on corrected frames,
and travels in the recordings that irst-stream run makes. What noise in the frames leaves as a pattern is printed; it is
the least that fit.fixed_dn should say. Rows and columns, and offsets learnt from the scene: irst-stream docs settings."""


ENOUGH_FRAMES = 100  # of a level


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Measure the gain and the offset of each pixel of a sensor.", EPILOG
    parser.add_argument(
        "--cold", metavar="COLD", type=Path, required=True, help="frames of a uniform scene, at a low level"
    )
    parser.add_argument("--hot", metavar="HOT", type=Path, help="frames of a uniform scene, at a high level")
    parser.add_argument("--output", metavar="TABLE.npz", type=Path, required=True, help="write the table to this file")
    parser.add_argument(
        "--variable", metavar="NAME|NUMBER", help="name of the array in a .mat or .npz file, or of the image in a FITS file"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    inputs = [path for path in (args.cold, args.hot) if path]
    check_outputs(args, output=".npz")
    if args.hot and args.hot.exists() and args.cold.exists() and args.hot.samefile(args.cold):
        raise UsageError(f"--hot: {args.hot} is the same as --cold; expected frames of another level")
    levels = [_read_level(path, args.variable) for path in inputs]
    table = two_point(*levels) if len(levels) == 2 else one_point(levels[0])
    with atomic_output(args.output) as part:
        write_correction(part, table)
    for line in _summary(table, levels):
        print_line(line)
    print_line(f"table    {args.output}; [correct] {to_toml({'table': str(args.output)}).strip()}")
    return 0


def _read_level(path: Path, variable: str | None) -> LevelMean:
    """Read all frames of a level."""
    source = open_source(path, variable=variable)
    level = LevelMean(str(path))
    with progress(path.name, source.frames) as done:
        for frame in source:
            level.add(frame.pixels, frame.full_scale)
            done(1)
    return level


def _summary(table: CorrectionTable, levels: list[LevelMean]) -> list[str]:
    """What was measured, one figure a line."""
    lines = [
        f"frames   {pluralise(level.frames, 'frame')} of {level.where}, mean {level.mean.mean():.1f} DN" for level in levels
    ]
    height, width = table.gain.shape
    lines.append(f"pixels   {width} x {height}, {table.bad} bad")
    if len(levels) == 2:
        lines.append(f"gain     {np.nanstd(table.gain):.2%} of spread")
    lines.append(
        f"offset   {np.nanstd(levels[0].mean[np.isfinite(table.gain)]):.3g} DN of pattern at {table.levels[0]:.1f} DN"
    )
    middle = float(np.mean(table.levels))
    lines.append(f"left     {table.error(middle):.2g} DN of pattern at {middle:.1f} DN, from noise in the frames")
    lines += [
        f"warning  {level.where}: {level.frames} frames only; {ENOUGH_FRAMES} or more leave less pattern"
        for level in levels
        if level.frames < ENOUGH_FRAMES
    ]
    return lines
