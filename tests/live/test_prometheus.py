"""The Prometheus endpoint: the runner's figures in the text format."""

import urllib.request

import pytest
from echo_pipeline import EchoPipeline, ListSink, ListSource
from local_feeds import small_frame
from prometheus_client.parser import text_string_to_metric_families

from irst_stream.live.http_server import HttpServer
from irst_stream.live.prometheus import metrics_handler
from irst_stream.live.runner import Runner


@pytest.fixture
def runner():
    made = Runner(EchoPipeline(), {"in": ListSource([small_frame(i) for i in range(20)])}, {"out": ListSink()}, "lossless")
    made.run()
    return made


def asked(runner):
    with HttpServer("metrics", {"/metrics": metrics_handler(runner)}, "127.0.0.1", 0) as server:
        return asked_of(server)


def asked_of(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}, text


def test_the_endpoint_serves_the_runners_counts(runner):
    samples, text = asked(runner)
    assert samples["irst_stream_frames_total"].value == 20
    assert samples["irst_stream_frames_total"].labels == {"sensor": "cam"}
    assert samples["irst_stream_written_records_total"].value == 20
    assert samples["irst_stream_sink_in_order"].value == 1
    assert samples["irst_stream_network_in_order"].value == 1
    assert samples["irst_stream_latency_seconds_count"].value == 20
    assert 'irst_stream_latency_seconds_bucket{le="+Inf",stage="compute"} 20.0' in text
    assert 'irst_stream_waiting{queue="intake"} 0.0' in text


def test_a_replaced_network_is_not_in_order():
    steps = EchoPipeline()
    steps.alarm = "the network failed (out of memory); replaced by ONNX Runtime on the CPU"
    made = Runner(steps, {"in": ListSource([small_frame(0)])}, {}, "lossless")
    made.run()
    assert made.status().alarm == steps.alarm
    assert asked(made)[0]["irst_stream_network_in_order"].value == 0
