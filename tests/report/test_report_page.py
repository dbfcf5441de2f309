"""Reports: one file that needs nothing else, from scores, profiles and recordings; two runs compared."""

import json
import re

import pytest
from browser import chromium
from page_scene import PERIOD_NS, scene_frame, scene_results

from irst_stream import Stamp, Truth
from irst_stream.cli import main
from irst_stream.io import jsonl
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.report.measures import change, findings, numbers
from irst_stream.report.runs import read_run

STEP = {"offered": 20.0, "answered": 20.0, "lag_ms": 10.0, "unused": {}, "cpu": 0.5, "kept_up": True}
STAGES = {"end to end published": {"samples": 9, "percentiles": [5.0, 6.0, 7.0, 8.0], "longest": 9.0, "total": 50.0}}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs a command in an empty folder: its exit code, output and last line of errors."""
    monkeypatch.chdir(tmp_path)

    def command(words):
        code = main(words.split())
        out, err = capsys.readouterr()
        return code, out, err.strip().splitlines()[-1] if err.strip() else ""

    return command


def write_folder(folder, shift=0.0, skipped=(5,)):
    """A run: a recording that lacks frames, scores of detections shifted by some px, and a profile."""
    folder.mkdir()
    recorder = Recorder(RecordSettings(str(folder / "run.mcap"), keep_free_mb=0), 'readout = "fit"\n')
    truths, found = [], []
    for index in range(12):
        detections, tracks = scene_results(index)
        truths.append(Truth(detections.stamp, tracks.id, tracks.id * 0, detections.xy + shift, detections.amplitude))
        found.append(detections)
        if index not in skipped:
            for record in (scene_frame(index), detections, tracks):
                recorder.write(record, index * PERIOD_NS)
    recorder.close()
    jsonl.write(folder / "found.jsonl", found)
    jsonl.write(folder / "truth.jsonl", truths)
    assert main(["score", f"{folder}/found.jsonl", f"{folder}/truth.jsonl", "--json", f"{folder}/score.json"]) == 0
    steps = [STEP | {"stages": STAGES}, STEP | {"offered": 40.0, "kept_up": False, "unused": {"overrun": 7}, "stages": {}}]
    (folder / "profile.json").write_text(json.dumps({"machine": "M", "target": "camera", "rungs": steps}))
    (folder / "own.toml").write_text("window = 5 # <b>not markup</b>\n")
    return folder


def test_a_report_needs_nothing_else_and_shows_everything(run, tmp_path):
    write_folder(tmp_path / "a")
    code, out, _ = run("report r.html a")
    assert code == 0
    assert out.splitlines()[-1].startswith("r.html: report of 1 run, ")
    text = (tmp_path / "r.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    for part in (
        "CSO-mAP",
        "100.00 %",
        "keeps up with 20 frames/s, not with 40 (7 overrun)",
        "cam: 1 frames are missing (8.3%)",
    ):
        assert part in text
    assert "&lt;b&gt;not markup&lt;/b&gt;" in text
    assert "readout = &quot;fit&quot;" in text or 'readout = "fit"' in text


def test_two_runs_are_compared(run, tmp_path):
    write_folder(tmp_path / "good")
    write_folder(tmp_path / "bad", shift=0.12)
    assert run("report r.html good bad")[0] == 0
    text = (tmp_path / "r.html").read_text()
    row = re.search(r"<tr><td>CSO-mAP</td>(.*?)</tr>", text).group(1)
    assert 'class="worse"' in row
    assert "100.00 %" in row
    assert re.search(r'<b class="look">look</b> bad: score.json: CSO-mAP 100.00 % \u2192 ', text)
    assert "bad: score.json: positions are off by 0.170 px on average" in text


def test_the_report_opens_from_a_file_and_zooms(run, tmp_path):
    write_folder(tmp_path / "a")
    run("report r.html a")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{tmp_path}/r.html")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        frame = page.locator("svg.frame")
        assert frame.locator("circle.track").count() == 4
        assert page.evaluate("() => document.querySelector('svg.frame image').href.baseVal.length") > 1000
        before = frame.get_attribute("viewBox")
        frame.hover()
        page.mouse.wheel(0, -500)
        for _ in range(100):
            if frame.get_attribute("viewBox") != before:
                break
            page.wait_for_timeout(50)
        assert float(frame.get_attribute("viewBox").split()[2]) < 40  # of 64 px
        frame.dblclick()
        assert [float(v) for v in frame.get_attribute("viewBox").split()] == [float(v) for v in before.split()]
        assert not faults


def test_score_and_profile_end_with_one(run, tmp_path):
    folder = write_folder(tmp_path / "a")
    code, out, _ = run(f"score {folder}/found.jsonl {folder}/truth.jsonl --json s.json --report s.html")
    assert (code, out.splitlines()[-1]) == (0, "report: s.html")
    assert "CSO-mAP" in (tmp_path / "s.html").read_text()
    code, _, err = run(f"score {folder}/found.jsonl {folder}/truth.jsonl --report s.html")
    assert (code, err) == (2, "irst-stream: --report: needs --json OUT, whose figures it shows")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("report r.html nowhere", "nowhere: no such file or folder"),
        ("report r.txt a", "r.txt: expected a name that ends in .html"),
        ("report r.html empty", "empty: holds no scores (score --json), no profile (profile --json) and no recording"),
        ("report r.html broken.json", "broken.json: not valid JSON: "),
        (
            "report r.html other.json",
            "other.json: expected JSON of irst-stream score or profile, a recording, or a folder of these",
        ),
        ("report r.html cut.mcap", "cut.mcap: not a recording: expected an MCAP file"),
        ("report r.html " + "a " * 9, "report: expected at most 8 runs, got 9"),
    ],
)
def test_what_makes_no_report_gets_one_line(run, tmp_path, words, says):
    write_folder(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("no")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "cut.mcap").write_bytes(b"MCAP?" * 9)
    code, _, err = run(words)
    assert code == 2
    assert err.startswith(f"irst-stream: {says}")
    assert not list(tmp_path.glob("r.*"))


def test_a_faulty_file_of_a_folder_is_noted_and_the_rest_is_shown(run, tmp_path):
    folder = write_folder(tmp_path / "a")
    data = (folder / "run.mcap").read_bytes()
    (folder / "cut.mcap").write_bytes(data[: len(data) // 2])
    (folder / "bad.json").write_text("{")
    (folder / "odd.json").write_text('{"scores": {"a": [1, null], "b": {"c": "x"}}, "detections": 3}')
    (folder / "steps.json").write_text('{"rungs": [{}, {"offered": 5, "stages": {"end to end x": {}}}]}')
    code, out, _ = run("report r.html a")
    assert code == 0
    assert "note: left out: a/bad.json: " in out
    assert "note: left out: a/steps.json: rungs: Object missing required field `offered`" in out
    assert "run.mcap" in (tmp_path / "r.html").read_text()


def test_changes_are_better_or_worse_by_what_a_number_is():
    assert change("cso_map", 0.5, 0.6) == (pytest.approx(0.2), 1)
    assert change("gospa.total", 0.5, 0.6) == (pytest.approx(0.2), -1)
    assert change("gospa.total", 0.5, 0.505) == (pytest.approx(0.01), 0)
    assert change("targets", 5, 9) == (pytest.approx(0.8), 0)
    assert change("clear.switches", 0, 2) == (float("inf"), -1)
    assert dict(numbers({"a": {"b": 1, "c": [1]}, "d": None, "e": True, "f": 2.5})) == {"a.b": 1.0, "f": 2.5}


def test_a_run_without_faults_has_nothing_grave(tmp_path):
    folder = write_folder(tmp_path / "a", skipped=())
    assert max(finding.grave for finding in findings(read_run(folder))) == 0
    assert Stamp("cam", 1, 6, 6 * PERIOD_NS) == read_run(folder).recordings[0].sensors[0].frame.stamp


def test_scores_of_one_run_on_different_truths_are_not_compared(run, tmp_path):
    folder = write_folder(tmp_path / "a")
    (folder / "other.json").write_text((folder / "score.json").read_text())
    run("report r.html a")
    assert "change" not in re.search(r"<h2>Scores of detections</h2>.*?</thead>", (tmp_path / "r.html").read_text()).group()
    run("report two.html a a")
    assert (tmp_path / "two.html").read_text().count("<th>change</th>") == 2  # score.json of both, other.json of both
