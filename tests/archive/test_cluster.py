"""On a Ray cluster of this machine: the same bytes as one process, also where a node dies midway."""

import pytest
from archived import PLAIN, archive, results, write_patches
from local_feeds import until

from irst_stream.archive.driver import run_archive
from irst_stream.archive.job import Job
from irst_stream.archive.recordings import find_recordings
from irst_stream.archive.workers import ray_workers
from irst_stream.cluster.ray_cluster import cluster_resources, import_ray
from irst_stream.config import read_config

pytest.importorskip("ray", reason="needs the extra ray")
STORE = 80 << 20  # bytes; the least that Ray takes is 75 MiB
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, "node_ip_address": "127.0.0.1"}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 5}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of a head without CPUs and one node, all on 127.0.0.1."""
    import_ray("a test")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # a machine's own address is then its loopback
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**NODE)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Three recordings, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "plain.toml").write_text(PLAIN)
    for k in range(3):
        write_patches(folder / "films" / f"film{k}.npy", 40, k)
    words = ("--config", folder / "plain.toml", "--piece", 8)
    assert archive(folder / "films", *words, "--out", folder / "one", "--workers", 1) == 0
    return folder


def test_a_cluster_gives_the_same_bytes_as_one_process(cluster, here):
    words = ("--config", here / "plain.toml", "--piece", 8, "--on", f"ray://{cluster.address}")
    assert archive(here / "films", *words, "--out", here / "ray") == 0
    assert results(here / "ray") == results(here / "one")


def test_a_node_that_dies_midway_costs_its_pieces_only(cluster, here, caplog):
    import ray

    doomed = cluster.add_node(**NODE)
    job = Job((here / "broken").resolve(), read_config(here / "plain.toml"), piece_frames=8)
    sources = find_recordings([str(here / "films")])
    killed = []

    def kill_midway(progress):
        if not killed and progress.pieces_done >= 3:
            killed.append(progress.pieces_done)
            cluster.remove_node(doomed, allow_graceful=False)
            until(lambda: cluster_resources(ray).nodes == 2, "the node is seen to be dead")

    with ray_workers(f"ray://{cluster.address}", job, None) as workers:
        until(lambda: not workers.outcomes() and workers.free == 2, "two workers")
        done = list(run_archive(sources, len(sources), workers, kill_midway))
    assert killed[0] < 15
    assert [summary.fault for summary in done] == ["", "", ""]
    assert results(here / "broken") == results(here / "one")
    assert any("a node was lost" in record.getMessage() for record in caplog.records)
