"""The tables that irst-stream score prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from irst_stream.commands.console import pluralise, print_line, print_table
from irst_stream.score import DetectionReport, Hits, TrackReport

__all__ = ["print_detection_scores", "print_track_scores"]


def print_detection_scores(report: DetectionReport, scores: dict[str, Any], frames: str) -> None:
    """Print all scores of detections; scores: the JSON report, which may have those of fine maps."""
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.images} frames have no line of detections and count as empty")
    counts = (
        pluralise(report.images, "image"),
        pluralise(report.detections, "detection"),
        pluralise(report.truths, "truth"),
    )
    print_line(f"{', '.join(counts)}, frames {frames}, {report.mode} matching")
    if report.boxes:
        print_line("note: TRUTH has boxes; CSO-mAP, GOSPA and errors within 0.25 px say nothing of them and are left out")
        _print_hits(report)
        return
    names = [f"AP{round(float(t) * 100):02d}" for t in report.cso_map.thresholds]
    print_table(["CSO-mAP", *names], [[_percent(report.cso_map.map), *map(_percent, report.cso_map.ap)]])
    e, g = report.errors, report.gospa
    rows = [
        ("GOSPA (c 1 px, p 2)", f"{_format(g.total, '.4f')} px"),
        ("  localisation / missed / false", f"{_format(g.localisation, '.4f')} / {g.missed:.4f} / {g.false:.4f} px²"),
        ("right number of targets", f"{_percent(e.count_accuracy)} % of images"),
        ("recall / precision at 0.25 px", f"{_percent(e.recall)} / {_percent(e.precision)} %"),
        ("position error, rms", f"{_format(e.position_rmse, '.4f')} px"),
        ("  bias x / y", f"{_format(e.position_bias_x, '+.4f')} / {_format(e.position_bias_y, '+.4f')} px"),
        ("amplitude error, rms / bias", f"{_format(e.amplitude_rmse, '.2f')} / {_format(e.amplitude_bias, '+.2f')} DN"),
    ]
    if "maps" in scores:
        rows.append(
            ("fine maps, PSNR / similarity", f"{scores['maps']['psnr']:.2f} dB / {scores['maps']['similarity']:.4f}")
        )
    print_table(["other scores, standard matching", ""], rows)
    if report.hits:
        _print_hits(report)


def _print_hits(report: DetectionReport) -> None:
    """Print the hits of each criterion, side by side."""
    rows: list[tuple[str, Callable[[Hits], str]]] = [
        ("targets found (detection probability)", lambda h: f"{_percent(h.found)} %"),
        ("false detections per frame", lambda h: _format(h.false_per_frame, ".4g")),
        ("false detections per pixel", lambda h: _format(h.false_per_pixel, ".3g")),
        ("detections on a found target, mean", lambda h: _format(h.per_target, ".3f")),
        ("found targets with exactly one", lambda h: f"{_percent(h.exactly_one)} %"),
        ("AUC: a hit has a higher score than a false one", lambda h: f"{_percent(h.roc_area)} %"),
        ("position error, p50 / p90", lambda h: f"{_format(h.error_p50, '.3f')} / {_format(h.error_p90, '.3f')} px"),
    ]
    print_table(
        [f"hits within {report.radius:g} px of the target's", *report.hits],
        [[name, *(words(value) for value in report.hits.values())] for name, words in rows],
    )
    print_line(f"right number of targets: {_percent(report.errors.count_accuracy)} % of images")


def print_track_scores(report: TrackReport, frames: str) -> None:
    """Print all scores of tracks."""
    if report.unanswered:
        print_line(f"note: {report.unanswered} of {report.frames} frames have no line of tracks and count as empty")
    counts = (
        pluralise(report.frames, "frame"),
        pluralise(report.targets, "target"),
        pluralise(report.tracks, "confirmed track"),
    )
    print_line(f"{', '.join(counts)}, frames {frames}, radius {report.radius:g} px")
    h, i, c, f, g = report.hota, report.identity, report.clear, report.follow, report.gospa
    print_table(
        ["HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA"],
        [[_percent(share) for share in (h.hota, h.det_a, h.ass_a, h.loc_a, i.idf1, c.mota)]],
    )
    rows = [
        (f"GOSPA (c {report.radius:g} px, p 2), mean over frames", f"{_format(g.total, '.4f')} px"),
        (
            "  localisation / missed / false",
            " / ".join(_format(part, ".4f") for part in (g.localisation, g.missed, g.false)) + " px²",
        ),
        (f"OSPA(2) (c {report.radius:g} px, p 1)", f"{_format(report.ospa2, '.4f')} px"),
        ("detection recall / precision (DetRe, DetPr)", f"{_percent(h.det_re)} / {_percent(h.det_pr)} %"),
        ("association recall / precision (AssRe, AssPr)", f"{_percent(h.ass_re)} / {_percent(h.ass_pr)} %"),
        ("identity precision / recall (IDP, IDR)", f"{_percent(i.idp)} / {_percent(i.idr)} %"),
        ("identity switches / fragments", f"{c.switches} / {c.fragments}"),
        ("points matched / missed / false", f"{c.matched} / {c.missed} / {c.false}"),
        ("matched distance, mean (MOTP)", f"{_format(c.motp, '.4f')} px"),
        ("track purity", f"{_percent(f.purity)} %"),
        ("time to confirm, mean", f"{_format(f.confirm_frames, '.2f')} frames, {_format(f.confirm_ms, '.1f')} ms"),
        ("targets never confirmed", f"{f.never} of {report.targets}"),
        ("position error, rms", f"{_format(f.position_rmse, '.4f')} px"),
        ("velocity error, rms", f"{_format(f.velocity_rmse, '.4f')} px/s"),
    ]
    print_table(["other scores", ""], rows)
    held = report.holding.values()
    if held:
        print_table(
            [f"tracks within {report.radius:g} px of the target's", *report.holding],
            [
                ["target frames with a confirmed track on the target", *(f"{_percent(h.tracked)} %" for h in held)],
                ["target frames under the longest id", *(f"{_percent(h.one_id)} %" for h in held)],
                ["false confirmed tracks per frame", *(_format(h.false_per_frame, ".4g") for h in held)],
            ],
        )


def _percent(share: float) -> str:
    return _format(100 * share, ".2f")


def _format(value: float, form: str) -> str:
    """Format a number; a dash if it is NaN, because there was nothing to measure."""
    return "-" if np.isnan(value) else format(value, form)
