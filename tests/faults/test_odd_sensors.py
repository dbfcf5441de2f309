"""Faults of sensors: each is counted by its name, and exactly the complete windows give results."""

import random
import signal
import time

import pytest
from local_feeds import PATIENCE_S, running, send, sender, small_frame, started, until, wait_for_exit, write_recording

HOUR_NS = 3600 * 10**9


def complete_windows(indices):
    """Centre indices of all windows of five consecutive frames, among the frames that arrive in order."""
    taken = [k for n, k in enumerate(indices) if k > max(indices[:n], default=-1)]
    return [k - 2 for k in taken if set(range(k - 4, k + 1)) <= set(taken)]


def expected_counts(indices):
    """The events to be counted for these frame indices; events with count 0 are omitted."""
    newest, counts = -1, dict.fromkeys(("duplicate", "late", "gap", "missing"), 0)
    for k in indices:
        counts["duplicate"] += k == newest
        counts["late"] += k < newest
        counts["gap"] += k > newest + 1
        counts["missing"] += max(0, k - newest - 1)
        newest = max(newest, k)
    return {name: n for name, n in counts.items() if n}


def disorder(frames, seed):
    """Frame indices with about 3 % each lost, duplicated and swapped with the next one."""
    rng, sent = random.Random(seed), list(range(frames))
    for k in range(5, frames - 1):
        draw = rng.random()
        if draw < 0.03:
            sent[k], sent[k + 1] = sent[k + 1], sent[k]
        elif draw < 0.06:
            sent[k] = sent[k - 1]
    return [k for n, k in enumerate(sent) if n < 5 or rng.random() > 0.03]


def test_a_restarted_sensor_gets_results_in_both_epochs(tmp_path):
    words = ("feed", write_recording(tmp_path / "film.mcap", 2000, 200), "--policy", "lossless", "--sensor", "cam")
    with running() as live:
        with started(*words, "--to", live.source.endpoint, "--epoch", 9) as first:
            until(lambda: len(live.published.indices(epoch=9)) > 20, "answers")
            first.kill()
        until(lambda: live.source.links["disconnected"], "the end of the link")
        with started(*words, "--to", live.source.endpoint, "--epoch", 2, "--limit", 40) as second:
            wait_for_exit(second)
        until(lambda: len(live.published.indices(epoch=2)) == 36, "answers of the second epoch")
    status = live.status()
    assert live.published.indices(epoch=9) == list(range(2, status.frames - 40 - 2))
    assert live.published.indices(epoch=2) == list(range(2, 38))
    assert status.dropped == {"restart": 1}
    assert status.rejected == {}


def test_a_frozen_sensor_counts_as_stalled_and_resumes_without_loss(tmp_path):
    words = (
        "feed",
        write_recording(tmp_path / "film.mcap", 200, 100),
        "--policy",
        "lossless",
        "--sensor",
        "cam",
        "--epoch",
        1,
    )
    with running(stall_s=0.5) as live, started(*words, "--to", live.source.endpoint) as child:
        until(lambda: len(live.published.indices()) > 20, "answers")
        child.send_signal(signal.SIGSTOP)
        until(lambda: live.source.stalled, "the silence")
        assert len(live.published.indices()) < 196
        silences = live.source.links["stalled"]
        child.send_signal(signal.SIGCONT)
        wait_for_exit(child)
        until(lambda: len(live.published.indices()) == 196, "all answers")
        until(lambda: live.source.links["stalled"] > silences, "the next stall")
    assert live.published.indices() == list(range(2, 198))
    assert (live.status().dropped, live.status().rejected) == ({}, {})


@pytest.mark.parametrize(
    ("sent", "answered", "counted"),
    [
        ([0, 1, 2, 3, 4, 5, 5, 5, 6, 7], [2, 3, 4, 5], {"duplicate": 2}),
        ([0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10], [2, 8], {"gap": 1, "missing": 1, "late": 1}),
        ([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12], [2, 3, 10], {"gap": 1, "missing": 2}),
    ],
    ids=["duplicated", "reordered", "lost"],
)
def test_frames_out_of_order_are_counted_by_name(sent, answered, counted):
    with running() as live, sender(live.source.endpoint) as socket:
        send(socket, *(small_frame(k) for k in sent))
        until(lambda: live.published.indices() == answered, f"answers {answered}")
    assert live.status().dropped == counted
    assert (complete_windows(sent), expected_counts(sent)) == (answered, counted), "the next test relies on these functions"


def test_many_disordered_frames_give_results_for_exactly_the_complete_windows():
    sent = {name: disorder(600, seed) for seed, name in enumerate(("left", "right"))}
    with running() as live, sender(live.source.endpoint) as socket:
        for n in range(max(map(len, sent.values()))):
            send(socket, *(small_frame(indices[n], name) for name, indices in sent.items() if n < len(indices)))
        until(lambda: live.status().frames == sum(map(len, sent.values())), "all frames")
    for name, indices in sent.items():
        assert live.published.indices(name) == complete_windows(indices)
        assert {reason: n for (s, reason), n in live.events.items() if s == name} == expected_counts(indices)
        assert min(expected_counts(indices).values()) > 5, "each fault must occur often"


@pytest.mark.parametrize(
    ("jump_ns", "pause_at"),
    [(-(10**9), None), (-HOUR_NS, 30), (-(10**18), 30), (HOUR_NS, 15)],
    ids=["a second back", "an hour back", "decades back", "an hour forth"],
)
def test_a_clock_jump_leaves_results_and_latencies_valid(jump_ns, pause_at):
    with running() as live, sender(live.source.endpoint) as socket:
        for k in range(40):
            send(socket, small_frame(k, clock="unix", time_ns=time.time_ns() + (jump_ns if 15 <= k < 30 else 0)))
            until(lambda k=k: live.status().frames == k + 1)
    status = live.status()
    broken = range(pause_at - 2, pause_at + 2) if pause_at else ()
    assert live.published.indices() == [k for k in range(2, 38) if k not in broken]
    assert status.dropped == {"clock": 1, **({"pause": 1} if pause_at else {})}
    for stage in status.stages.values():
        assert all(0 <= p <= stage.longest for p in stage.percentiles)
        assert stage.longest < PATIENCE_S * 1e3, "an offset of a second counts as latency, one of an hour is ignored"
        assert 0 <= stage.total <= stage.samples * PATIENCE_S * 1e3


def test_a_window_restarts_after_an_hour_of_silence():
    with running(stall_s=0.1) as live, sender(live.source.endpoint) as socket:
        send(socket, *(small_frame(k) for k in range(10)))
        until(lambda: len(live.published.indices()) == 6)
        until(lambda: live.source.stalled, "the silence")
        send(socket, *(small_frame(k, time_ns=k * 10**7 + HOUR_NS) for k in range(10, 20)))
        until(lambda: len(live.published.indices()) == 12)
        assert live.source.links["stalled"] >= 1
    assert live.published.indices() == [*range(2, 8), *range(12, 18)]
    assert live.status().dropped == {"pause": 1}
