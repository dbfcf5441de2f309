"""irst-stream look: what it shows, in a browser, and what it says to wrong input."""

import json
import urllib.request

import pytest
from browser import chromium, opened, until
from local_feeds import PATIENCE_S, free_port, started, wait_for_exit
from local_feeds import until as wait_until
from page_scene import scene_frame, scene_results

from irst_stream import Detections, Stamp, Truth
from irst_stream.cli import main
from irst_stream.io import jsonl
from irst_stream.io.media.raw import write_raw
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """In the current folder: clip.raw, 40 frames at 50 Hz, a.jsonl, b.jsonl, tracks.jsonl and truth.jsonl of it."""
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "clip.raw", (scene_frame(k).pixels for k in range(40)), rate_hz=50.0, bits=12)

    def named(record):
        stamp = Stamp("clip", 0, record.stamp.index, record.stamp.time_ns)
        return type(record)(stamp, *(getattr(record, name) for name in record.__slots__[1:]))

    results = [scene_results(k) for k in range(40)]
    jsonl.write(tmp_path / "a.jsonl", [named(found) for found, _ in results])
    jsonl.write(tmp_path / "b.jsonl", [named(Detections.bare(f.stamp, f.xy + 1, f.amplitude, f.score)) for f, _ in results])
    jsonl.write(tmp_path / "tracks.jsonl", [named(tracks) for _, tracks in results])
    truths = [Truth(named(found).stamp, tracks.id, tracks.id * 0, found.xy, found.amplitude) for found, tracks in results]
    jsonl.write(tmp_path / "truth.jsonl", truths)
    return tmp_path


@pytest.mark.usefixtures("clip")
def test_files_are_shown_with_results_and_truth_at_any_frame():
    port = free_port().rpartition(":")[2]
    files = "--detections a.jsonl b.jsonl --tracks tracks.jsonl --truth truth.jsonl"
    with started("look", "clip.raw", *files.split(), "--port", port) as child:
        wait_until(lambda: "page: http://127.0.0.1:" in child.output, child.output)
        assert "clip.raw: 1 sequence; detections of a, detections of b, tracks, truth" in child.output
        url = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(f"{url}api/about", timeout=PATIENCE_S) as answer:
            about = json.load(answer)
        assert (about["kind"], about["sensors"][0]["rate_hz"]) == ("playback", 50.0)
        with chromium() as browser, opened(browser, url) as page:
            shown = "() => document.querySelector('.pane').dataset.position"
            until(page, "() => document.querySelector('#slider').max === '39'")
            page.locator("#slider").fill("25")
            until(page, f"() => ({shown})() === '25'")
            for kind, count in (("detection.set-0", 4), ("detection.set-1", 4), ("track", 4), ("truth", 4)):
                assert page.locator(f"#panes g.{kind}").count() == count
            page.check("#split")
            assert page.locator(".pane").count() == 2
            panes = page.locator(".pane")
            assert panes.nth(0).locator("g.detection.set-1").count() == 0
            assert panes.nth(1).locator("g.detection.set-0").count() == 0
            assert panes.nth(1).locator("figcaption").inner_text() == "b"
            page.select_option("#speed", "10")
            page.locator("#play").click()
            until(page, f"() => ({shown})() === '39'")
            until(page, "() => document.querySelector('#play').textContent === 'play'")  # stops at the end
        child.terminate()


def test_a_damaged_frame_is_told_and_stepped_over(clip):
    recorder = Recorder(RecordSettings("run.mcap", keep_free_mb=0))
    for index in range(6):
        recorder.write(scene_frame(index), index * 20_000_000)
    recorder.close()
    data = bytearray((clip / "run.mcap").read_bytes())
    at = data.find(scene_frame(2).pixels.tobytes())
    data[at + 100] ^= 255
    (clip / "run.mcap").write_bytes(data)
    port = free_port().rpartition(":")[2]
    with started("look", "run.mcap", "--port", port) as child:
        wait_until(lambda: "page: http://127.0.0.1:" in child.output, child.output)
        with chromium() as browser, opened(browser, f"http://127.0.0.1:{port}/") as page:
            shown = "() => document.querySelector('.pane').dataset.position"
            until(page, f"() => ({shown})() === '0'")
            page.keyboard.press("ArrowRight")
            until(page, f"() => ({shown})() === '1'")
            page.keyboard.press("ArrowRight")
            until(page, "() => document.querySelector('#alarms').textContent.includes('checksum mismatch')")
            page.keyboard.press("ArrowRight")
            until(page, f"() => ({shown})() === '3'")
            until(page, "() => document.querySelector('#alarms').hidden")
        child.terminate()
        wait_for_exit(child)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("look nowhere", "nowhere: no such file or folder"),
        ("look clip.raw --detections a.jsonl b.jsonl a.jsonl", "--detections: expected at most 2 files, got 3"),
        (
            "look clip.raw --detections a.jsonl a.jsonl",
            "--detections: both files are called a; the page tells them by their names",
        ),
        ("look clip.raw --detections tracks.jsonl", "tracks.jsonl: expected detections"),
        ("look clip.raw --tracks a.jsonl", "a.jsonl: expected tracks"),
        ("look clip.raw --tracks nowhere.jsonl", "nowhere.jsonl: No such file or directory"),
        ("look clip.raw --detections other.jsonl", "other.jsonl: of sequence 'other'; the frames are of 'clip'"),
        ("look clip.raw --detections broken.jsonl", "broken.jsonl: expected detections"),
        ("look clip.raw --port 0", "irst-stream look: argument --port: expected a port from 1 to 65535, got '0'"),
        ("look text.mcap", "text.mcap: not a recording: expected an MCAP file"),
        ("look empty.mcap", "empty.mcap: empty file"),
    ],
)
def test_what_cannot_be_shown_gets_one_line(clip, capsys, words, says):
    jsonl.write(
        clip / "other.jsonl", [Detections.bare(Stamp("other", 0, 0, 0), *(scene_results(0)[0].xy, [1] * 4, [1] * 4))]
    )
    (clip / "broken.jsonl").write_text("{no\n")
    (clip / "text.mcap").write_text("text, and more of it than a header has")
    (clip / "empty.mcap").touch()
    try:
        code = main(words.split())
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
