"""What a supervisor does with workers that crash, and sensors that fail, at a place without processes."""

import time

import pytest
from fleet_feeds import new_endpoints, write_fleet
from local_feeds import until

from irst_stream.cli import main
from irst_stream.commands import fleet as command
from irst_stream.errors import OutputError, UsageError
from irst_stream.fleet import post as posts
from irst_stream.fleet import supervisor as supervising
from irst_stream.fleet.journal import Position
from irst_stream.fleet.ledger import IDS_A_START
from irst_stream.fleet.orders import StationReport, WorkerReport
from irst_stream.fleet.page import fleet_handlers, observer_handlers
from irst_stream.fleet.places import WorkerLostError
from irst_stream.fleet.settings import read_fleet
from irst_stream.fleet.supervisor import Supervisor
from irst_stream.live.http_server import Answer, Request
from irst_stream.live.log_lines import LogLines
from irst_stream.system.latency import Durations


class FakeWorker:
    """Runs nothing, and reports that it runs everything but what cannot start; dies of what is poisonous."""

    def __init__(self, name, place):
        self.name, self.place, self.orders, self.why = name, place, {}, ""

    def call(self, method, *arguments, timeout_s):
        assert timeout_s > 0
        if self.why:
            raise WorkerLostError(f"{self.name}: {self.why}")
        return getattr(self, method)(*arguments)

    def end(self):
        return self.why

    def kill(self):
        self.why = self.why or "killed"

    def assign(self, order):
        self.place.orders.append((self.name, order))
        if order.sensor in self.place.refused:
            raise UsageError(f"{order.sensor}: refused")
        self.orders[order.sensor] = order
        if order.sensor in self.place.poison:
            self.why = "ended by SIGSEGV"

    def release(self, sensor, _):
        order = self.orders.pop(sensor, None)
        return StationReport(order.start, "ended", last=Position(1, 40)) if order else None

    def stop(self, seconds):
        return {name: self.release(name, seconds) for name in list(self.orders)}

    def report(self, _):
        stations = {
            name: StationReport(order.start, "failed", "no such table")
            if name in self.place.unfit
            else StationReport(order.start, "running", stages=self.place.computed(name), last=Position(1, 7))
            for name, order in self.orders.items()
        }
        return WorkerReport("host", 1, 0.0, time.monotonic(), stations, [])

    def ask(self, sensor, request):
        return Answer(f"{self.name} {sensor} {request.path}".encode())


class FakePlace:
    cores, one_disk = 2, False

    def __init__(self):
        self.workers, self.orders = [], []
        self.poison, self.unfit, self.refused = set(), set(), set()
        self.loads, self.totals = {}, {}

    def start(self, name):
        self.workers.append(FakeWorker(name, self))
        return self.workers[-1]

    def computed(self, sensor):
        """The computing time of a sensor so far, as its load says."""
        now = time.monotonic()
        total, last = self.totals.get(sensor, (0.0, now))
        self.totals[sensor] = total + self.loads.get(sensor, 0.1) * (now - last), now
        return {"compute": Durations({}, 0, int(self.totals[sensor][0] * 1e9))}

    def starts_of(self, sensor):
        return [(worker, order) for worker, order in self.orders if order.sensor == sensor]

    def close(self):
        for worker in self.workers:
            worker.kill()


@pytest.fixture
def place():
    return FakePlace()


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return read_fleet(write_fleet(tmp_path, new_endpoints("a", "b", "c"), "workers = 2\nlease_s = 1"))


@pytest.fixture
def supervisor(fleet, place, monkeypatch):
    monkeypatch.setattr(posts, "RETRY_S", 0.05)
    monkeypatch.setattr(supervising, "HIRE_S", 0.05)
    running = Supervisor(fleet, place)
    running.start()
    yield running
    running.stop()
    assert running.wait(20)


def settled(supervisor):
    """Whether every sensor has a worker, and says that it runs."""
    return all(supervisor.placements().values()) and len(supervisor.reports()) == 3


def test_sensors_are_spread_and_their_starts_numbered(supervisor, place, fleet):
    until(lambda: settled(supervisor), "all placed")
    sensors = sorted(len(one["sensors"]) for one in supervisor.crew())
    assert sensors == [1, 2]
    assert all(order.least_id == IDS_A_START + 1 for _, order in place.orders)
    with pytest.raises(OutputError, match="another fleet keeps it"):
        Supervisor(fleet, place)


def test_sensors_of_a_crashed_worker_move_and_start_where_the_last_report_was(supervisor, place):
    until(lambda: settled(supervisor), "all placed")
    victim = place.workers[0]
    moved = list(victim.orders)
    victim.why = "ended by SIGKILL"
    until(lambda: supervisor.lost_workers == 1 and settled(supervisor), "moved")
    for sensor in moved:
        (_, first), (worker, second) = place.starts_of(sensor)
        assert worker != victim.name
        assert (first.start, second.start, second.before) == (1, 2, Position(1, 7))
        assert second.least_id == 2 * IDS_A_START + 1
    assert sum(supervisor.starts().values()) == 3 + len(moved)
    until(lambda: len(supervisor.crew()) == 2, "a worker in its place")


def test_a_sensor_that_kills_its_workers_gets_one_of_its_own(supervisor, place):
    until(lambda: settled(supervisor), "all placed")
    place.poison.add("b")
    supervisor.placements()["b"].worker.why = "ended by SIGSEGV"
    until(lambda: any(m.only_for == "b" for m in supervisor.members) or supervisor.lost_workers > 4, "its own worker")
    until(lambda: supervisor.placements()["a"] and supervisor.placements()["c"], "the others run")
    innocent = {name: len(place.starts_of(name)) for name in "ac"}
    assert max(innocent.values()) <= 3
    lost = supervisor.lost_workers
    until(lambda: supervisor.lost_workers > lost + 1, "it dies again and again")
    assert {name: len(place.starts_of(name)) for name in "ac"} == innocent, "and hits no other"


@pytest.mark.parametrize("kind", ["unfit", "refused"])
def test_a_sensor_that_fails_is_tried_again_and_the_others_go_on(supervisor, place, kind):
    getattr(place, kind).add("c")
    until(lambda: len(place.starts_of("c")) >= 3, "three tries")
    began = [order.start for _, order in place.starts_of("c")]
    assert began == sorted(set(began)), "each a start of its own"
    assert any(line.startswith("sensor c: does not run: ") for line in supervisor.status().faults)
    assert len(place.starts_of("a")) == len(place.starts_of("b")) == 1
    assert supervisor.lost_workers == 0
    getattr(place, kind).clear()
    until(lambda: settled(supervisor) and not supervisor.posts["c"].fault, "it runs")


def test_a_sensor_leaves_a_busy_worker(supervisor, place, monkeypatch):
    monkeypatch.setattr(supervising, "REBALANCE_S", 0.1)
    monkeypatch.setattr(supervising, "SETTLED_S", 0.1)
    until(lambda: settled(supervisor), "all placed")
    pair = next(one["sensors"] for one in supervisor.crew() if len(one["sensors"]) == 2)
    place.loads = {pair[0]: 0.9, pair[1]: 0.3}
    single = next(name for name in "abc" if name not in pair)
    until(lambda: supervisor.placements()[pair[1]] is supervisor.placements()[single], "the lighter one moves to the other")
    until(lambda: settled(supervisor), "it runs there")
    assert sum(supervisor.starts().values()) == 4
    assert place.starts_of(pair[1])[-1][1].before == Position(1, 40), "after an end that was meant"


def test_a_sensor_that_is_to_be_alone_is(fleet, place):
    plans = {name: plan._replace(alone=name == "b") for name, plan in fleet.sensors.items()}
    running = Supervisor(fleet._replace(sensors=plans), place)
    running.start()
    until(lambda: settled(running), "all placed")
    assert [one["sensors"] for one in running.crew() if "b" in one["sensors"]] == [["b"]]
    assert len(running.crew()) == 3, "besides the others"
    running.stop()
    assert running.wait(20)


def test_a_place_that_starts_no_worker_is_tried_again(fleet, place):
    begin, place.start = place.start, None
    place.start = lambda name: begin(name) if place.workers or name == "worker 2" else fail(name)

    def fail(name):
        raise OSError(f"{name}: no memory")

    running = Supervisor(fleet, place)
    running.start()
    until(lambda: settled(running), "all placed")
    running.stop()
    assert running.wait(20)


def test_a_failure_of_the_supervisor_is_raised_and_leaves_no_worker(fleet, place):
    running = Supervisor(fleet, place)
    place.start = None  # nothing that can be called
    running.start()
    with pytest.raises(TypeError):
        running.wait(20)
    Supervisor(fleet, place)._ledger.close()  # the state was let go of


def test_a_sensor_that_never_ran_is_told_at_the_end(fleet, place, monkeypatch, capsys):
    monkeypatch.setattr(command, "_open_place", lambda *_: place)
    assert fleet.sensors
    place.unfit.add("c")
    assert main(["fleet", "fleet.toml", "--seconds", "1"]) == 3
    assert capsys.readouterr().err.endswith("irst-stream: sensor c: did not run at the end: no such table\n")
    place.unfit.clear()
    place.workers.clear()
    assert main(["fleet", "fleet.toml", "--seconds", "1"]) == 0
    assert "0 frames of 3 sensors" in capsys.readouterr().out


def test_a_changed_sensor_alone_starts_again(supervisor, place, fleet, tmp_path):
    until(lambda: settled(supervisor), "all placed")
    path = tmp_path / "fleet.toml"
    path.write_text(path.read_text() + "set.fit.sigma_px = 0.7\n")
    supervisor.reload(read_fleet(path).sensors)
    until(lambda: len(place.starts_of("c")) == 2 and settled(supervisor), "started again")
    _, order = place.starts_of("c")[-1]
    assert (order.config.fit.sigma_px, order.before) == (0.7, Position(1, 40))
    supervisor.reload({name: fleet.sensors[name] for name in "ab"})
    until(lambda: set(supervisor.placements()) == {"a", "b"}, "removed")
    assert len(place.starts_of("a")) == len(place.starts_of("b")) == 1


def test_the_page_asks_the_worker_that_has_the_sensor(supervisor):
    handlers = {**fleet_handlers(supervisor, LogLines(), "test", 10.0), **observer_handlers(supervisor)}
    until(lambda: settled(supervisor), "all placed")
    name = supervisor.placements()["b"].name
    assert handlers["/api/next"](Request("/api/next", {"sensor": "b"})).body == f"{name} b /api/next".encode()
    with pytest.raises(UsageError, match="expected one of 3 that are known, got 'd'"):
        handlers["/api/frame"](Request("/api/frame", {"sensor": "d"}))
    assert b'"kind":"live"' in handlers["/api/about"](Request("/api/about", {})).body
    status = handlers["/api/status"](Request("/api/status", {"log_after": "x" * 99})).body
    assert b'"workers":[{"name":"worker 1","where":"host, process 1","state":"ready"' in status
    text = handlers["/metrics"](Request("/metrics", {})).body.decode()
    assert 'irst_stream_fleet_workers{state="ready"} 2.0' in text
    assert 'irst_stream_fleet_sensor_starts_total{sensor="a"} 1.0' in text
    assert handlers["/health/alive"](Request("/health/alive", {})).status == 200
    assert handlers["/health/ready"](Request("/health/ready", {})).status == 503, "no frame has come"
