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
        print_line(f"right number of targets: {_right_number(report)}")
        return
    names = [f"AP{round(float(t) * 100):02d}" for t in report.cso_map.thresholds]
    print_table(["CSO-mAP", *names], [[_percent(report.cso_map.map), *map(_percent, report.cso_map.ap)]])
    e, g = report.errors, report.gospa
    rows = [
        ("GOSPA (c 1 px, p 2)", _figures(".4f", "px", g.total)),
        ("  localisation / missed / false", _figures(".4f", "px²", g.localisation, g.missed, g.false)),
        ("right number of targets", _right_number(report)),
        ("recall / precision at 0.25 px", _shares(e.recall, e.precision)),
        ("position error, rms", _figures(".4f", "px", e.position_rmse)),
        ("  bias x / y", _figures("+.4f", "px", e.position_bias_x, e.position_bias_y)),
        (
            "amplitude error, rms / bias",
            f"{_figures('.2f', '', e.amplitude_rmse)} / {_figures('+.2f', 'DN', e.amplitude_bias)}",
        ),
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
        ("targets found (detection probability)", lambda h: _shares(h.found)),
        ("false detections per frame", lambda h: _figures(".4g", "", h.false_per_frame)),
        ("false detections per pixel", lambda h: _figures(".3g", "", h.false_per_pixel)),
        ("detections on a found target, mean", lambda h: _figures(".3f", "", h.per_target)),
        ("found targets with exactly one", lambda h: _shares(h.exactly_one)),
        ("AUC: a hit has a higher score than a false one", lambda h: _shares(h.roc_area)),
        ("position error, p50 / p90", lambda h: _figures(".3f", "px", h.error_p50, h.error_p90)),
    ]
    print_table(
        [f"hits within {report.radius:g} px of the target's", *report.hits],
        [[name, *(words(value) for value in report.hits.values())] for name, words in rows],
    )


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
        (f"GOSPA (c {report.radius:g} px, p 2), mean over frames", _figures(".4f", "px", g.total)),
        ("  localisation / missed / false", _figures(".4f", "px²", g.localisation, g.missed, g.false)),
        (f"OSPA(2) (c {report.radius:g} px, p 1)", _figures(".4f", "px", report.ospa2)),
        ("detection recall / precision (DetRe, DetPr)", _shares(h.det_re, h.det_pr)),
        ("association recall / precision (AssRe, AssPr)", _shares(h.ass_re, h.ass_pr)),
        ("identity precision / recall (IDP, IDR)", _shares(i.idp, i.idr)),
        ("identity switches / fragments", f"{c.switches} / {c.fragments}"),
        ("points matched / missed / false", f"{c.matched} / {c.missed} / {c.false}"),
        ("matched distance, mean (MOTP)", _figures(".4f", "px", c.motp)),
        ("track purity", _shares(f.purity)),
        ("time to confirm, mean", f"{_figures('.2f', 'frames', f.confirm_frames)}, {_figures('.1f', 'ms', f.confirm_ms)}"),
        ("targets never confirmed", f"{f.never} of {report.targets}"),
        ("position error, rms", _figures(".4f", "px", f.position_rmse)),
        ("velocity error, rms", _figures(".4f", "px/s", f.velocity_rmse)),
    ]
    print_table(["other scores", ""], rows)
    held = report.holding.values()
    if held:
        print_table(
            [f"tracks within {report.radius:g} px of the target's", *report.holding],
            [
                ["target frames with a confirmed track on the target", *(_shares(h.tracked) for h in held)],
                ["target frames under the longest id", *(_shares(h.one_id) for h in held)],
                ["false confirmed tracks per frame", *(_figures(".4g", "", h.false_per_frame) for h in held)],
            ],
        )


def _right_number(report: DetectionReport) -> str:
    share = _shares(report.errors.count_accuracy)
    return share if share == "-" else f"{share} of images"


def _shares(*shares: float) -> str:
    """Shares in per cent, as _figures writes them."""
    return _figures(".2f", "%", *(100 * share for share in shares))


def _figures(form: str, unit: str, *values: float) -> str:
    """Numbers with " / " between them, then their unit; a dash for NaN, because there was nothing to measure."""
    parts = ["-" if np.isnan(value) else format(value, form) for value in values]
    return " / ".join(parts) + (f" {unit}" if unit and set(parts) != {"-"} else "")


def _percent(share: float) -> str:
    """A share in per cent, without the sign."""
    return _figures(".2f", "", 100 * share)
