"""irst-stream archive: the results of replay, whatever the pieces and the workers; nothing is done twice or lost."""

import fcntl
import json
import logging
import shutil
from tempfile import gettempdir

import numpy as np
import pytest
from archived import PLAIN, archive, record_patches, replay, results, write_patches

from irst_stream.archive import piece_file
from irst_stream.archive.job import Job, Step
from irst_stream.archive.recordings import folder_name
from irst_stream.archive.worker import noted
from irst_stream.archive.workers import LocalWorkers, OneWorker
from irst_stream.cli import main
from irst_stream.config import read_config
from irst_stream.errors import OutputError
from irst_stream.io import jsonl
from irst_stream.sim import Groups, Platform, Scene, SceneSettings, Sensor
from irst_stream.sim.background import BACKGROUNDS
from irst_stream.sim.on_disk import scene_set
from irst_stream.types import Detections


@pytest.fixture(autouse=True)
def _compiled(compiled):
    """Compile before the tests, once."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a configuration that remembers nothing, and three recordings of patches."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.toml").write_text(PLAIN)
    for k in range(3):
        write_patches(tmp_path / "films" / f"film{k}.npy", 40, k)
    return tmp_path


def pieces(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.glob("recordings/*/pieces/*.piece"))}


class TestSameAsReplay:
    def test_pieces_of_patches_where_nothing_is_remembered_give_the_same_bytes(self, here):
        assert archive("films", "--config", "plain.toml", "--out", "out", "--workers", 1, "--piece", 12) == 0
        assert len(pieces(here / "out")) == 3 * 4
        for k in range(3):
            single = replay(here / "films" / f"film{k}.npy", here / "single", "--config", "plain.toml")
            assert results(here / "out")[f"film{k}"] == single

    def test_the_network_of_patches_in_pieces_gives_the_same_bytes(self, here):
        (here / "network.toml").write_text('readout = "network"\nengine = "seqcsist"\nbackend = "onnx"\n')
        film = here / "films" / "film1.npy"
        assert archive(film, "--config", "network.toml", "--out", "out", "--workers", 1, "--piece", 15) == 0
        assert results(here / "out")["film1"] == replay(film, here / "single", "--config", "network.toml")

    def test_each_sensor_of_a_recording_with_its_own_configuration(self, here):
        film = record_patches(here / "flight.mcap")
        assert archive(film, "--out", "out", "--workers", 1, "--piece", 10) == 0
        single = replay(film, here / "single")
        for name, data in results(here / "out")["flight"].items():
            found = data.splitlines()
            assert sorted(found) == sorted(single[name].splitlines())
            for sensor in (b'"sequence":"a"', b'"sequence":"b"'):
                assert [line for line in found if sensor in line] == [
                    line for line in single[name].splitlines() if sensor in line
                ]

    def test_a_registered_scene_in_pieces_has_the_same_detections(self, here):
        """The platform drifts by a fraction of a pixel a frame, over clouds, and says nothing of it."""
        background = BACKGROUNDS["broken-cloud"]
        settings = SceneSettings(Sensor(96, 80), background, Groups(groups=0, singles=2), Platform(20.0, 7.0))
        scene = Scene(settings, 90, 4)
        np.save(here / "pan.npy", np.stack([scene.frame(k).pixels for k in range(90)]))
        (here / "pan.toml").write_text(f'{PLAIN}[register]\nwhen = "auto"\n')
        words = ("--config", "pan.toml")
        assert archive("pan.npy", *words, "--out", "out", "--workers", 1, "--piece", 45, "--lead-in", 40) == 0
        (folder,) = (here / "out" / "recordings").iterdir()
        (poses,) = folder.glob("poses-*.jsonl")
        assert len(poses.read_bytes().splitlines()) > 60
        single = replay(here / "pan.npy", here / "single", *words)
        ours = list(jsonl.read(folder / "detections.jsonl", Detections))
        theirs = list(jsonl.read(here / "single" / "detections.jsonl", Detections))
        same = [len(a) == len(b) and np.allclose(a.xy, b.xy, rtol=0, atol=0.01) for a, b in zip(ours, theirs, strict=True)]
        assert np.mean(same) > 0.97
        assert results(here / "out")["pan"].keys() == single.keys()

    def test_a_scene_in_pieces_has_the_same_detections_and_ids(self, here):
        """Regions, warm starts, bad pixels and tracks that lower the search's threshold are remembered."""
        settings = SceneSettings(Sensor(80, 72), groups=Groups(groups=0, singles=2))
        run = scene_set(here / "scene", settings, 150, seed=3)
        run.claim()
        for job in run.jobs:
            for name, data in job.files():
                (here / "scene" / name).parent.mkdir(exist_ok=True)
                (here / "scene" / name).write_bytes(data)
        (here / "held.toml").write_text(
            'readout = "fit"\n[fit]\namplitude_dn = 235.0\namplitude_sd_dn = 50.0\nmost_targets = 1\n'
            "[propose]\ntracked_share = 0.7\n"
        )
        words = ("--config", "held.toml")
        assert archive("scene", *words, "--out", "out", "--workers", 1, "--piece", 50, "--lead-in", 40) == 0
        single = replay(here / "scene", here / "single", *words)
        (folder,) = (here / "out" / "recordings").iterdir()
        assert json.loads((folder / "result.json").read_text())["pieces"] == 3
        ours, theirs = (list(jsonl.read(f / "detections.jsonl", Detections)) for f in (folder, here / "single"))
        assert [one.stamp for one in ours] == [one.stamp for one in theirs]
        distances = [
            np.linalg.norm(a.xy[:, None] - b.xy, axis=2).min(0) for a, b in zip(ours, theirs, strict=True) if len(a)
        ]
        assert np.mean(np.concatenate(distances) <= 0.01) > 0.98
        assert abs(sum(map(len, ours)) - sum(map(len, theirs))) <= 0.02 * sum(map(len, theirs))
        scores = {}
        for name, path in (("ours", folder / "tracks.jsonl"), ("theirs", here / "single" / "tracks.jsonl")):
            assert main(["score", str(path), "scene", "--json", f"{name}.json"]) == 0
            scores[name] = json.loads((here / f"{name}.json").read_text())["scores"]["identity"]["idf1"]
        assert abs(scores["ours"] - scores["theirs"]) <= 0.005
        assert b'"tracks"' in single["tracks.jsonl"]


class TestGoingOn:
    WORDS = ("films", "--config", "plain.toml", "--out", "out", "--workers", 1, "--piece", 20)

    def test_what_is_done_is_not_done_again(self, here):
        assert archive(*self.WORDS) == 0
        before, done = pieces(here / "out"), results(here / "out")
        lost = sorted(before)[1]
        lost.unlink()
        (lost.parents[1] / "result.json").unlink()
        lost.with_name("000001.piece.host-1.part").write_bytes(b"of a run that was killed")
        assert archive(*self.WORDS) == 0
        assert not list(here.rglob("*.part"))
        after = pieces(here / "out")
        assert [path for path in after if after[path] != before[path]] == [lost]
        assert results(here / "out") == done

    def test_a_damaged_piece_is_computed_again(self, here):
        assert archive(*self.WORDS) == 0
        before, done = pieces(here / "out"), results(here / "out")
        truncated, changed = list(before)[:2]
        truncated.write_bytes(truncated.read_bytes()[:-7])
        changed.write_bytes(changed.read_bytes()[:-1] + b"?")
        for path in here.glob("out/recordings/*/result.json"):
            path.unlink()
        assert archive(*self.WORDS) == 0
        after = pieces(here / "out")
        assert {path for path in after if after[path] != before[path]} == {truncated, changed}
        assert results(here / "out") == done

    def test_a_changed_configuration_or_recording_starts_again_and_says_so(self, here, caplog):
        assert archive(*self.WORDS) == 0
        before = pieces(here / "out")
        film = here / "films" / "film0.npy"
        film.touch()  # the same content at another time
        assert archive(*self.WORDS) == 0
        assert pieces(here / "out") == before
        write_patches(film, 40, 7)
        caplog.clear()
        assert archive(*self.WORDS) == 0
        assert [r.getMessage() for r in caplog.records] == ["films/film0.npy: the recording has changed; it starts again"]
        after = pieces(here / "out")
        assert sum(after[path] != before[path] for path in after) == 2
        (here / "plain.toml").write_text(PLAIN.replace("235.0", "236.0"))
        caplog.clear()
        assert archive(*self.WORDS) == 0
        assert len([r for r in caplog.records if "the configuration has changed" in r.getMessage()]) == 3
        assert archive(*self.WORDS[:-1], 40) == 0
        assert len(pieces(here / "out")) == 3  # none of the earlier, shorter ones is left

    def test_two_runs_do_not_fill_one_folder(self, here, capsys):
        assert archive(*self.WORDS) == 0
        with (here / "out" / "archive.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert archive(*self.WORDS) == 2
        assert "another run is filling this folder" in capsys.readouterr().err


class TestWhatCannotBeRead:
    def test_a_broken_file_is_reported_and_all_others_are_done(self, here, capsys):
        film = here / "films" / "film1.npy"
        film.write_bytes(film.read_bytes()[:-3000])  # 40 frames, of which 27 are whole
        (here / "films" / "none.npy").write_bytes(b"")
        (here / "films" / "notes.txt").write_text("no recording")
        assert archive("films", "--config", "plain.toml", "--out", "out", "--workers", 1, "--piece", 12) == 2
        said = capsys.readouterr()
        assert "film1.npy: truncated: 27 of 40 frames can be read, up to there it is done" in said.err
        assert "none.npy: empty file" in said.err
        assert said.err.rstrip().endswith("2 of 4 recordings could not be read to the end; all others are done")
        words = ["--config", "plain.toml", "--detections", "d.jsonl", "--tracks", "t.jsonl"]
        assert main(["replay", str(film), *words]) == 2
        broken = results(here / "out")["film1"]
        assert broken["detections.jsonl"] == (here / "d.jsonl.partial").read_bytes()
        assert broken["tracks.jsonl"] == (here / "t.jsonl.partial").read_bytes()
        assert results(here / "out")["film2"] == replay(here / "films" / "film2.npy", here / "s", "--config", "plain.toml")

    def test_a_damaged_recording_gives_the_frames_before_the_fault(self, here, capsys):
        film = record_patches(here / "flight.mcap", ("a",), 40)
        film.write_bytes(film.read_bytes()[:-400])
        assert archive("flight.mcap", "--out", "out", "--workers", 1, "--piece", 12) == 2
        assert "irst-stream recover saves what can be read" in capsys.readouterr().err
        assert main(["replay", str(film), "--detections", "d.jsonl", "--tracks", "t.jsonl"]) == 2
        assert results(here / "out")["flight"]["detections.jsonl"] == (here / "d.jsonl.partial").read_bytes()

    def test_names_of_nothing_start_nothing(self, here, capsys):
        assert archive("nosuch", "neither", "--config", "plain.toml", "--out", "out") == 2
        assert capsys.readouterr().err.endswith("irst-stream: nosuch: no such file or folder\n")
        assert not (here / "out").exists()

    def test_a_missing_recording_costs_no_other(self, here, capsys):
        (here / "list.txt").write_text("# a day\nfilms/film0.npy\n\nfilms/gone.npy\n")
        assert archive("@list.txt", "--config", "plain.toml", "--out", "out", "--workers", 1) == 2
        assert "films/gone.npy: no such file or folder" in capsys.readouterr().err
        assert set(results(here / "out")) == {"film0"}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["empty"], "empty: holds no recording. Expected"),
            (["nothing*.npy"], r"nothing*.npy: no such file. Expected"),
            (["@none.txt"], "@none.txt: No such file or directory"),
            (["@blank.txt"], "nothing to do"),
            (["@film.npy"], "not a list of recordings, one a line"),
            (["films", "--config", "none"], "none: no such file, and no bundled configuration"),
            (["films", "--on", "host:1"], "host:1: expected ray://HOST:PORT"),
            (["films", "--on", "ray://127.0.0.1:1"], "ray://127.0.0.1:1: no Ray cluster there"),
            (["films", "--workers", "0"], "--workers"),
            (["films", "--piece", "2", "--lead-in", "100"], "--lead-in: expected at most ten pieces of 2 frames, got 100"),
            (["nope://x/y.npy"], "nope://x/y.npy: "),
            (["memory://nothing/here.npy", "--config", "plain.toml"], "memory://nothing/here.npy: no such file"),
        ],
    )
    def test_wrong_inputs_are_one_line(self, words, message, here, capsys):
        (here / "empty").mkdir()
        (here / "blank.txt").write_text("# nothing\n")
        shutil.copy(here / "films" / "film0.npy", here / "film.npy")
        try:
            code = archive(*words, "--out", "out")
        except SystemExit as error:
            code = error.code
        assert code == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said

    def test_the_folder_of_the_results_is_its_own(self, here, capsys):
        assert archive("films/film0.npy", "--config", "plain.toml", "--out", "films", "--workers", 1) == 2
        assert "holds files that do not belong to an archive" in capsys.readouterr().err
        scene_set(here / "scene", SceneSettings(Sensor(72, 72)), 2).claim()
        assert archive("scene", "--out", "scene/out", "--workers", 1) == 2
        assert "lies in the recording scene" in capsys.readouterr().err
        assert sorted(path.name for path in (here / "films").iterdir()) == ["film0.npy", "film1.npy", "film2.npy"]


class TestWorkers:
    def test_processes_give_the_same_bytes_as_one(self, here):
        words = ("films", "--config", "plain.toml", "--piece", 12)
        assert archive(*words, "--out", "one", "--workers", 1) == 0
        assert archive(*words, "--out", "two", "--workers", 2) == 0
        assert results(here / "one") == results(here / "two")

    def test_a_worker_that_ends_costs_its_step_and_is_replaced(self, here):
        job = Job((here / "out").resolve(), read_config(here / "plain.toml"), piece_frames=20)
        film = "films/film0.npy"
        survey = Step("survey", folder_name(film), film)
        workers = LocalWorkers(job, 1)
        try:
            workers.submit(survey)
            ((process, _),) = workers._busy.values()
            process.process.kill()
            outcomes = outcomes_of(workers)
            assert [(o.step, o.lost) for o in outcomes] == [(survey, True)]
            assert "a worker ended (exit code -9)" in outcomes[0].fault
            assert workers.free == 1
            workers.submit(survey)
            assert outcomes_of(workers)[0].missing == (0, 1)
        finally:
            workers.close()

    def test_a_full_disk_ends_the_run(self, here, monkeypatch, capsys):
        def full(path, _):
            raise OutputError(f"{path}: cannot be written: No space left on device")

        monkeypatch.setattr(piece_file, "write_whole", full)
        assert archive(here / "films", "--config", "plain.toml", "--out", "out", "--workers", 1) == 3
        assert "No space left on device" in capsys.readouterr().err

    def test_a_warning_names_its_recording_once(self):
        notes = []
        with noted(notes, "films/a.npy"):
            logging.getLogger("irst_stream.propose.clutter").warning("the first frame shows another scene")
            logging.getLogger("irst_stream.source_config").warning("films/a.npy: no configuration")
            logging.getLogger("irst_stream.chain.window").warning("a: frame 3 has more regions")
        assert notes == ["films/a.npy: the first frame shows another scene", "films/a.npy: no configuration"]

    def test_one_worker_says_what_is_wrong_with_a_step(self, here):
        job = Job((here / "out").resolve(), read_config(here / "plain.toml"))
        worker = OneWorker(job)
        worker.submit(Step("piece", "never-surveyed", "films/film0.npy", 0))
        (outcome,) = worker.outcomes()
        assert outcome.stop
        assert "expected an --out that all workers see" in outcome.fault


def outcomes_of(workers):
    """Wait until something has come to an end."""
    while not (found := workers.outcomes()):
        pass
    return found


class TestStorageAndScores:
    def test_object_storage_gives_the_same_bytes(self, here):
        import fsspec

        files = fsspec.filesystem("memory")
        files.put(str(here / "films" / "film0.npy"), "/day/film0.npy")
        files.put(str(here / "films" / "film1.npy"), "/day/film1.npy")
        words = ("--config", "plain.toml", "--workers", 1, "--piece", 20)
        assert archive("memory://day/*.npy", *words, "--out", "far") == 0
        assert archive("films/film[01].npy", *words, "--out", "near") == 0
        assert results(here / "far") == results(here / "near")
        before = pieces(here / "far")
        assert archive("memory://day", *words, "--out", "far") == 0
        assert pieces(here / "far") == before

    @pytest.mark.usefixtures("here")
    def test_a_broken_file_in_object_storage_is_named_by_its_address(self, capsys):
        import fsspec

        fsspec.filesystem("memory").pipe("/night/broken.mcap", b"no recording at all")
        assert archive("memory://night/*.mcap", "--config", "plain.toml", "--workers", 1, "--out", "out") == 2
        said = capsys.readouterr()
        assert "\nmemory:///night/broken.mcap: not a recording: expected an MCAP file\n" in said.err
        assert gettempdir() not in said.out + said.err

    def test_truth_beside_a_recording_gives_scores_a_table_and_a_report(self, here, capsys):
        settings = SceneSettings(Sensor(72, 72), groups=Groups(groups=0, singles=2))
        scene = Scene(settings, 20, 1)
        np.save(here / "films" / "seen.npy", np.stack([scene.frame(k).pixels for k in range(20)]))
        (here / "films" / "seen.truth.jsonl").write_bytes(b"".join(jsonl.encode(scene.truth(k)) for k in range(20)))
        words = ("films", "--config", "plain.toml", "--out", "out", "--workers", 1, "--parquet")
        assert archive(*words) == 0
        table = capsys.readouterr().out
        assert "IDF1" in table
        report = json.loads((here / "out" / "archive.json").read_text())
        by_name = {one["source"]: one for one in report["recordings"]}
        assert by_name["films/seen.npy"]["scores"]["detections"]["truths"] > 0
        assert by_name["films/film0.npy"]["scores"] == {}
        assert "films/seen.npy" in (here / "out" / "report.html").read_text()
        import pyarrow.parquet as parquet

        (found,) = here.glob("out/recordings/seen-*/detections.parquet")
        assert parquet.read_table(found).num_rows >= by_name["films/seen.npy"]["detections"]
