"""What operators use: alerts, dashboard, service, health, logs as JSON."""

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from local_feeds import PATIENCE_S, free_port, lines, sender, small_frame, started, until, wait_for_exit
from prometheus_client.parser import text_string_to_metric_families

from irst_stream.build import build_pipeline
from irst_stream.config import Config
from irst_stream.io.zeromq import wire
from irst_stream.live.health import SILENT_S, health_handlers, health_of
from irst_stream.live.http_server import Request
from irst_stream.live.prometheus import metrics_handler
from irst_stream.live.runner import Runner
from irst_stream.live.sequence_monitor import SequenceMonitor
from irst_stream.live.status import SensorStatus, SinkStatus, Status
from irst_stream.system.shipped import configs_folder

ALERTS, DASHBOARD = configs_folder() / "prometheus-alerts.yml", configs_folder() / "grafana-dashboard.json"
NAME = re.compile(r"irst_stream_\w+")


def tool(name):
    """A program of the system; skips the test where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def exported(outputs=()):
    """The names of all samples that /metrics can have."""
    text = metrics_handler(Runner(SequenceMonitor(), {}, {}), outputs)(Request("/metrics", {})).body.decode()
    names = set()
    for family in text_string_to_metric_families(text):
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {f"{family.name}{ending}" for ending in endings}
    return names


def test_prometheus_takes_the_alerts():
    checked = run(tool("promtool"), "check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_on_its_fault_and_on_nothing_else(tmp_path):
    source = Path(__file__).with_name("alerts_test.yml").read_text()
    (tmp_path / "test.yml").write_text(source.replace("RULES", str(ALERTS)))
    done = run(tool("promtool"), "test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    assert all(source.count(name) == 2 for name in names)  # once in health, once in trouble


def test_every_metric_of_the_alerts_and_of_the_dashboard_is_exported():
    expressions = re.findall(r"expr: '(.*)'", ALERTS.read_text())
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    named = set().union(*(NAME.findall(text) for text in expressions))
    assert len(named) >= 12
    assert named <= exported(["x.mcap"])


def test_the_dashboards_panels_do_not_overlap_and_have_units():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_systemd_takes_the_service_and_finds_it_well_confined(tmp_path):
    unit = tmp_path / "irst-stream.service"
    text = (configs_folder() / "irst-stream.service").read_text()
    assert "ExecStart=/opt/irst-stream/bin/irst-stream run " in text
    unit.write_text(text.replace("/opt/irst-stream/bin/irst-stream", "/bin/true"))
    verified = run(tool("systemd-analyze"), "verify", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = run("systemd-analyze", "security", "--offline=yes", "--threshold=30", unit)  # of 100; 96 without any
    assert rated.returncode == 0, rated.stdout[-300:]


def status(sensors=None, sinks=None, alarm=""):
    return Status(1.0, sensors or {}, sinks or {}, {}, {}, {}, {}, 0, alarm)


WELL = {"cam": SensorStatus(5, 5, 5, 1, 0.1)}
SILENT = {"cam": SensorStatus(5, 5, 5, 1, SILENT_S + 1)}
BROKEN = {"out.mcap": SinkStatus(3, 0, 2, "recording stopped: disk full")}


@pytest.mark.parametrize(
    ("given", "running", "expected"),
    [
        (status(WELL), True, (True, True, ())),
        (status(WELL), False, (False, False, ())),
        (status(), True, (True, False, ())),  # no frame has come yet
        (status(SILENT), True, (True, False, ("sensor cam: silent for 6 s",))),
        (status(WELL, BROKEN), True, (True, False, ("out.mcap: recording stopped: disk full",))),
        (status(WELL, alarm="the GPU failed"), True, (True, True, ("the GPU failed",))),
    ],
)
def test_health_tells_alive_ready_and_degraded_apart(given, running, expected):
    health = health_of(given, is_running=running)
    assert (health.alive, health.ready, health.degraded) == expected


def test_the_health_endpoints_answer_by_their_status():
    handlers = health_handlers(Runner(SequenceMonitor(), {}, {}))  # not started
    answers = {path: handler(Request(path, {})) for path, handler in handlers.items()}
    assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(
        ("/health", "/health/alive", "/health/ready"), 503
    )
    assert json.loads(answers["/health"].body) == {"alive": False, "ready": False, "degraded": []}


def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def with_a_target(index):
    """A patch with one bright target in its middle."""
    pixels = np.random.default_rng(index).normal(100, 3, (11, 11))
    pixels[5, 4:7] += 60
    pixels[4:7, 5] += 60
    pixels[5, 5] += 120
    return replace(small_frame(index), pixels=pixels.astype(np.uint16))


def test_a_run_serves_page_metrics_and_health_and_logs_json(tmp_path):
    feed, port = free_port(), free_port().rpartition(":")[2]
    config = tmp_path / "run.toml"
    config.write_text(
        f'readout = "fit"\npolicy = "lossless"\n[[receive]]\nendpoint = "{feed}"\nbind = true\n'
        f'[[write]]\npath = "{tmp_path}/found.jsonl"\n'
    )
    pipeline = build_pipeline(Config(), tracks=True)  # compiles what the run needs, before anybody waits for it
    assert sum(len(pipeline.step([with_a_target(index)])) for index in range(6)) == 4
    with started("run", config, "--view", port, "--log", "json") as child:
        until(lambda: '"message": "page: ' in child.output, f"the page; {child.output}")
        url = f"http://127.0.0.1:{port}"
        assert json.loads(fetched(f"{url}/health")[1]) == {"alive": True, "ready": False, "degraded": []}
        assert fetched(f"{url}/health/ready")[0] == 503
        with sender(feed) as sending:
            for index in range(6):
                sending.send_multipart(wire.encode(small_frame(index)))
            until(lambda: len(lines(tmp_path / "found.jsonl")) == 2, "detections")
            assert fetched(f"{url}/health/ready")[0] == 200
            metrics = fetched(f"{url}/metrics")[1]
            assert 'irst_stream_frames_total{sensor="cam"} 6.0' in metrics
            assert f'irst_stream_disk_free_bytes{{folder="{tmp_path}"}}' in metrics
            about = json.loads(fetched(f"{url}/api/about")[1])
            assert (about["kind"], about["title"], about["sensors"][0]["name"]) == ("live", "run", "cam")
            with urllib.request.urlopen(f"{url}/api/next?sensor=cam", timeout=PATIENCE_S) as answer:
                assert b'"tracks":{' in answer.read()
        child.terminate()
        wait_for_exit(child)
    logged = [json.loads(line) for line in child.output.splitlines() if line.startswith("{")]
    assert logged
    assert all(set(line) == {"time", "level", "logger", "message"} for line in logged)


def test_a_port_in_use_is_told_before_anything_is_opened(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(f'readout = "fit"\n[[receive]]\nendpoint = "{free_port()}"\nbind = true\n')
    with socket.create_server(("127.0.0.1", 0)) as taken, started("run", config, "--view", taken.getsockname()[1]) as child:
        wait_for_exit(child, code=2)
    assert re.search(r"irst-stream: view: 127.0.0.1:\d+ cannot be bound: Address already in use", child.output)
