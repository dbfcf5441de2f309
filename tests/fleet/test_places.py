"""The contract of a place where workers run, held by processes of this machine and by a Ray cluster of two nodes."""

import os
import signal
import time
from dataclasses import replace

import psutil
import pytest
from fleet_feeds import answered, feeding, new_endpoints, track_ids, write_fleet
from local_feeds import until

from irst_stream.cluster.ray_cluster import import_ray
from irst_stream.errors import UsageError
from irst_stream.fleet.ledger import IDS_A_START
from irst_stream.fleet.local import LocalPlace
from irst_stream.fleet.orders import Order
from irst_stream.fleet.places import WorkerLostError
from irst_stream.fleet.settings import read_fleet
from irst_stream.fleet.supervisor import Supervisor

LEASE_S = 5.0
CALL_S = 30.0
MOVE_S = 15.0  # until the sensors of a lost node are answered elsewhere: a lease and a start, slow on a busy machine


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes with two cores each; the first one, where the supervisor is, has the head."""
    pytest.importorskip("ray")
    import_ray("the test")
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    try:
        running.other = running.add_node(num_cpus=1, object_store_memory=80_000_000)
        yield running
    finally:
        running.shutdown()


@pytest.fixture(params=["local", "ray"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if request.param == "local":
        opened = LocalPlace(LEASE_S)
    else:
        from irst_stream.fleet.on_ray import RayPlace

        opened = RayPlace(f"ray://{request.getfixturevalue('cluster').address}", LEASE_S)
    yield opened
    opened.close()
    opened.close()


def reached(worker):
    """Whether a worker answers."""
    try:
        return worker.call("report", 0, timeout_s=CALL_S)
    except WorkerLostError:
        return None


def test_a_place_keeps_its_contract(place, tmp_path):
    """A worker comes up, runs what it is told, raises its errors here, and ends without its supervisor's word."""
    assert place.cores >= 1
    first = place.start("first")
    until(lambda: reached(first), "the worker answers")
    assert first.end() == ""
    endpoints = new_endpoints("cam")
    plan = read_fleet(write_fleet(tmp_path, endpoints)).sensors["cam"]
    config = replace(plan.config, memory=str(tmp_path / "cam.json"))
    order = Order("cam", config, plan.text, 1, 1 if place.one_disk else IDS_A_START + 1, str(tmp_path), None, 0.0, 0.0)
    with feeding(endpoints):
        first.call("assign", order, timeout_s=CALL_S)
        with pytest.raises(UsageError, match="cam: runs already"):
            first.call("assign", order, timeout_s=CALL_S)
        until(lambda: reached(first) and sum(map(len, answered(tmp_path, "cam"))) > 5, "results")
    report = first.call("report", 0, timeout_s=CALL_S)
    assert report.stations["cam"].state == "running"
    assert any("start 1" in line.text for line in report.log)
    released = first.call("release", "cam", 5.0, timeout_s=CALL_S)
    assert released.state == "ended"
    assert released.last.index == answered(tmp_path, "cam")[0][-1]
    least = min(set().union(*track_ids(tmp_path, "cam")))
    assert least >= order.least_id
    with pytest.raises(WorkerLostError, match="no_such_thing"):
        first.call("no_such_thing", timeout_s=CALL_S)
    until(first.end, "the end of a worker without a word from its supervisor")
    with pytest.raises(WorkerLostError, match="first: "):
        first.call("report", 0, timeout_s=CALL_S)
    first.kill()
    first.kill()


def test_sensors_leave_a_node_that_is_lost(cluster, tmp_path, monkeypatch):
    from irst_stream.fleet.on_ray import RayPlace

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("irst_stream.fleet.supervisor.SPREAD_S", 60.0)  # however long the second worker takes to come up
    names = ("north", "east")
    endpoints = new_endpoints(*names)
    fleet = read_fleet(write_fleet(tmp_path, endpoints, "workers = 2"))
    supervisor = Supervisor(fleet, RayPlace(f"ray://{cluster.address}", LEASE_S))
    supervisor.start()
    with feeding(endpoints):
        try:
            until(lambda: all(sum(map(len, answered(tmp_path, name))) > 5 for name in names), "results")
            crew = {one["name"]: one for one in supervisor.crew()}
            assert all(len(one["sensors"]) == 1 for one in crew.values()), "one on each node"
            raylet = psutil.Process(cluster.other.all_processes["raylet"][0].process.pid)
            pids = {name: int(one["where"].rpartition(" ")[2]) for name, one in crew.items()}
            there = {child.pid for child in raylet.children(recursive=True)}
            (victim,) = [name for name, pid in pids.items() if pid in there]
            for process in (raylet.pid, pids[victim]):  # as where the machine loses its power
                os.kill(process, signal.SIGKILL)
            moved = time.monotonic()
            before = {name: sum(map(len, answered(tmp_path, name))) for name in names}
            until(lambda: supervisor.lost_workers, "the loss is noticed")
            until(lambda: all(sum(map(len, answered(tmp_path, n))) > before[n] + 5 for n in names), "results of both")
            assert time.monotonic() - moved < MOVE_S
        finally:
            supervisor.stop()
            assert supervisor.wait(30)
    for name in names:
        ids = [one for one in track_ids(tmp_path, name) if one]
        assert sum(map(len, ids)) == len(set().union(*ids)), "no id in two starts"
        assert all(len({number // IDS_A_START for number in one}) == 1 for one in ids), "each start has a range of ids"
        indices = [index for start in answered(tmp_path, name) for index in start]
        assert indices == sorted(set(indices)), "no frame is answered twice"
