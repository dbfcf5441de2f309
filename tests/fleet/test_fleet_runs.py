"""A fleet as it runs: workers, and the supervisor itself, are killed while frames come."""

import json
import os
import re
import signal
import time
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
from fleet_feeds import answered, feeding, new_endpoints, recorded, series, total, track_ids, write_fleet
from local_feeds import free_port, started, until, wait_for_exit

NAMES = ("north", "east", "south")
HEAD = "workers = 2\nlease_s = 2.0"
MOVE_S = 15.0  # until the sensors of a dead worker are answered elsewhere: a lease and a start, slow on a busy machine


def asked(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


def status(port):
    return json.loads(asked(port, "/api/status?sensor=north"))


def ready(port):
    """The workers that are there, by name; empty while the page does not answer."""
    try:
        return {one["name"]: one for one in status(port)["workers"] if one["state"] == "ready"}
    except OSError:
        return {}


def pid(worker):
    return int(re.search(r"process (\d+)", worker["where"])[1])


def is_alive(process):
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def counted(port):
    """Frames without a result because of a worker, as the page has it."""
    return status(port)["unused"].get("worker", 0)


def grows(folder, sensors, by=5):
    """Wait until each sensor has so many more results; return how long that took, s."""
    began, before = time.monotonic(), {name: total(folder, name) for name in sensors}
    until(lambda: all(total(folder, name) >= before[name] + by for name in sensors), f"results of {sensors}")
    return time.monotonic() - began


def holes(folder, sensor):
    """Frames between the first and the last result that have none."""
    starts = [indices for indices in answered(folder, sensor) if indices]
    for indices in starts:
        assert indices[-1] - indices[0] == len(indices) - 1, "no hole within a start"
    return sum(after[0] - before[-1] - 1 for before, after in pairwise(starts))


def is_counted(count, folder, sensors, dead):
    """Whether all frames without a result are counted. dead: how many sensors' workers died.

    One frame more for each may be counted: its line was written when the worker died, but that was not noted yet.
    """
    return 0 <= count - sum(holes(folder, name) for name in sensors) <= dead


def check_series(folder, sent):
    """Each frame is answered and recorded once at most, in order, and no track id is in two starts. sent: by sensor."""
    for name in sent:
        indices = [index for start in answered(folder, name) for index in start]
        assert indices == sorted(set(indices)), "each frame at most once, in order"
        assert indices[-1] < sent[name]
        ids = track_ids(folder, name)
        assert sum(map(len, ids)) == len(set.union(*ids)), "no id in two starts"
        frames = recorded(folder, name)
        assert frames == sorted(set(frames)), "recordings are whole"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sensors_outlive_their_workers_and_the_supervisor(folder):
    port = int(free_port().rpartition(":")[2])
    endpoints = new_endpoints(*NAMES, "west")
    three = {name: endpoints[name] for name in NAMES}
    view = f"[view]\nport = {port}\n"
    path = write_fleet(folder, three, head=HEAD, more=view)
    with feeding(endpoints) as sent:
        with started("fleet", path) as running:
            until(lambda: len(ready(port)) == 2, "two workers")
            grows(folder, NAMES)
            before = ready(port)
            victim = next(one for one in before.values() if "north" in one["sensors"])
            others = [name for name in NAMES if name not in victim["sensors"]]
            assert others, "spread over both workers"

            os.kill(pid(victim), signal.SIGKILL)
            assert grows(folder, victim["sensors"]) < MOVE_S
            assert all(len(series(folder, name)) == 1 for name in others), "the others were not touched"
            until(lambda: len(ready(port)) == 2, "a worker in its place")

            path.write_text(path.read_text() + "wrong = 1\n")
            running.send_signal(signal.SIGHUP)
            until(lambda: "not reloaded: " in running.output, "a faulty file is refused")
            write_fleet(folder, {name: endpoints[name] for name in ("north", "east", "west")}, HEAD, view)
            running.send_signal(signal.SIGHUP)
            grows(folder, ["west"])
            until(lambda: "south" not in status(port)["counts"], "south removed")
            assert all(len(series(folder, name)) == 1 for name in others if name != "south")
            assert len(series(folder, "north")) == 2

            dead = len(victim["sensors"])
            until(lambda: is_counted(counted(port), folder, endpoints, dead), "the loss is counted")
            frame = asked(port, "/api/next?sensor=west&after=-1&picture=full")
            assert json.loads(frame[4 : 4 + int.from_bytes(frame[:4], "little")])["sensor"] == "west"
            metrics = asked(port, "/metrics").decode()
            assert 'irst_stream_fleet_sensor_placed{sensor="west"} 1.0' in metrics
            assert 'irst_stream_fleet_lost_workers_total{fleet="fleet"} 1.0' in metrics

            hung = next(one for one in ready(port).values() if "north" in one["sensors"])
            os.kill(pid(hung), signal.SIGSTOP)
            grows(folder, hung["sensors"])
            dead += len(hung["sensors"])
            until(lambda: is_counted(counted(port), folder, endpoints, dead), "the loss is counted")
            first = counted(port)

            workers = [pid(one) for one in ready(port).values()]
            running.kill()
            running.wait()
            until(lambda: not any(map(is_alive, workers)), "workers end with their supervisor")
        at_death = {name: total(folder, name) for name in endpoints}
        with started("fleet", path) as running:
            grows(folder, ("north", "east", "west"))
            running.terminate()
            wait_for_exit(running)
        assert total(folder, "south") == at_death["south"]
        second = int(["0", *re.findall(r"(\d+) worker\b", running.output)][-1])  # of the summary, at the end
        assert is_counted(first + second, folder, endpoints, dead + 3), "the loss is counted"
    check_series(folder, sent)
