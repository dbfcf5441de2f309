"""irst-stream report: scores, profiles and recordings of one or several runs as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import pluralise, print_line
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.errors import UsageError
from irst_stream.report.page import write_report
from irst_stream.report.runs import read_run

__all__ = ["add_report_option", "check_report", "set_up", "write_own_report"]

MOST_RUNS = 8

EPILOG = """\
RUN is a folder, or one file: scores (score --json), a profile (profile --json), a recording (.mcap). Of a folder, its
configurations (.toml) are shown too. The report says what to look at first, shows tables, curves and frames that can be
zoomed, settings and versions. With two runs, differences of 2 % and more are marked as better or worse. The file needs
nothing else: it opens in any browser, without a network."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Write what runs left behind as one HTML file.", EPILOG
    parser.add_argument("out", metavar="OUT.html", type=Path, help="report to write")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder or file of a run; two are compared")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if len(args.runs) > MOST_RUNS:
        raise UsageError(f"report: expected at most {MOST_RUNS} runs, got {len(args.runs)}")
    check_outputs(args, out=".html")
    runs = [read_run(path) for path in args.runs]
    if len({run.name for run in runs}) < len(runs):
        for run, path in zip(runs, args.runs, strict=True):
            run.name = str(path)
    with atomic_output(args.out) as part:
        write_report(part, runs)
    print_line(f"{args.out}: report of {pluralise(len(runs), 'run')}, {args.out.stat().st_size / 1e6:.1f} MB")
    for fault in (fault for run in runs for fault in run.faults):
        print_line(f"note: left out: {fault}")
    return 0


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Add --report, which needs --json of the same command."""
    parser.add_argument(
        "--report", metavar="OUT.html", type=Path, help="write a report of it too; needs --json (see irst-stream report)"
    )


def check_report(report: Path | None, figures: Path | None) -> None:
    """Raise a UsageError if --report lacks --json."""
    if report is not None and figures is None:
        raise UsageError("--report: needs --json OUT, whose figures it shows")


def write_own_report(report: Path | None, figures: Path) -> None:
    """Write the report of figures that a command has just written, if it is asked for."""
    if report is None:
        return
    with atomic_output(report) as part:
        write_report(part, [read_run(figures)])
    print_line(f"report: {report}")
