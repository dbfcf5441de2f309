"""On a Ray cluster of this machine: the same bytes as one process, also where a node dies midway."""

import pytest
from archived import PLAIN, archive, results, write_patches

from irst_stream.archive.driver import run_archive
from irst_stream.archive.job import Job
from irst_stream.archive.recordings import find_recordings
from irst_stream.archive.workers import ray_workers
from irst_stream.cluster.ray_cluster import import_ray
from irst_stream.config import read_config

pytest.importorskip("ray", reason="needs the extra ray")
STORE = 80 << 20  # bytes; the least that Ray takes is 75 MiB
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, "node_ip_address": "127.0.0.1"}
# Ray leaves the pipes to the processes that it starts to the garbage collector, and asks for an API that Python gives up
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of a head without CPUs and one node, all on 127.0.0.1."""
    import_ray("a test")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
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
    doomed = cluster.add_node(**NODE)
    job = Job((here / "broken").resolve(), read_config(here / "plain.toml"), piece_frames=8)
    sources = find_recordings([str(here / "films")])
    workers_seen, killed = set(), []

    with ray_workers(f"ray://{cluster.address}", job, None) as workers:

        def watch(progress):
            workers_seen.add(workers.count)
            if workers.count == 2 and workers.busy == 2 and not killed:
                killed.append(progress.pieces_done)
                cluster.remove_node(doomed, allow_graceful=False)

        done = list(run_archive(sources, len(sources), workers, watch))
    assert killed
    assert killed[0] < 15
    assert 2 in workers_seen
    assert [summary.fault for summary in done] == ["", "", ""]
    assert results(here / "broken") == results(here / "one")
    assert [r.getMessage() for r in caplog.records if "a node was lost" in r.getMessage()]
