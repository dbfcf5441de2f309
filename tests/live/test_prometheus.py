"""What Prometheus is told: the runner's own figures, in its text format."""

import urllib.request

import pytest
from feeds import patch
from prometheus_client.parser import text_string_to_metric_families
from test_runner import Echo, Given, Kept

from irst_stream import UsageError
from irst_stream.live.prometheus import MetricsServer
from irst_stream.live.runner import Runner


@pytest.fixture
def runner():
    made = Runner(Echo(), {"in": Given([patch(i) for i in range(20)])}, {"out": Kept()}, "lossless")
    made.run()
    return made


def asked(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}, text


def test_the_endpoint_tells_what_the_runner_counts(runner):
    with MetricsServer(runner, "127.0.0.1", 0) as server:
        samples, text = asked(server)
    assert samples["irst_stream_frames_total"].value == 20
    assert samples["irst_stream_frames_total"].labels == {"sensor": "cam"}
    assert samples["irst_stream_written_records_total"].value == 20
    assert samples["irst_stream_sink_in_order"].value == 1
    assert samples["irst_stream_network_in_order"].value == 1
    assert samples["irst_stream_latency_seconds_count"].value == 20
    assert 'irst_stream_latency_seconds_bucket{le="+Inf",stage="compute"} 20.0' in text
    assert 'irst_stream_waiting{queue="intake"} 0.0' in text


def test_a_network_that_has_been_replaced_is_out_of_order():
    steps = Echo()
    steps.alarm = "the network failed (out of memory); from now on by ONNX Runtime on the CPU"
    made = Runner(steps, {"in": Given([patch(0)])}, {}, "lossless")
    made.run()
    assert made.status().alarm == steps.alarm
    with MetricsServer(made, "127.0.0.1", 0) as server:
        assert asked(server)[0]["irst_stream_network_in_order"].value == 0


def test_a_port_in_use_gives_one_line(runner):
    with (
        MetricsServer(runner, "127.0.0.1", 0) as server,
        pytest.raises(UsageError, match=rf"metrics: 127.0.0.1:{server.port} cannot be bound: Address already in use"),
    ):
        MetricsServer(runner, "127.0.0.1", server.port)
