"""What goes wrong with sensors: each fault is counted by its name, and just the windows that are whole are answered."""

import random
import signal
import time

import pytest
from feeds import PATIENCE_S, ended, film, patch, running, send, sender, started, until

HOUR_NS = 3600 * 10**9


def whole(indices):
    """The centres of five frames that all came, one after the other, of those that came in order."""
    taken = [k for n, k in enumerate(indices) if k > max(indices[:n], default=-1)]
    return [k - 2 for k in taken if set(range(k - 4, k + 1)) <= set(taken)]


def verdicts(indices):
    """What is to be counted of a sensor's frames, each but 0 times."""
    newest, counts = -1, dict.fromkeys(("duplicate", "late", "gap", "missing"), 0)
    for k in indices:
        counts["duplicate"] += k == newest
        counts["late"] += k < newest
        counts["gap"] += k > newest + 1
        counts["missing"] += max(0, k - newest - 1)
        newest = max(newest, k)
    return {name: n for name, n in counts.items() if n}


def disorder(frames, seed):
    """Indices of which a few each are lost, sent twice, or overtaken by the next one."""
    chance, sent = random.Random(seed), list(range(frames))
    for k in range(5, frames - 1):
        fate = chance.random()
        if fate < 0.03:
            sent[k], sent[k + 1] = sent[k + 1], sent[k]
        elif fate < 0.06:
            sent[k] = sent[k - 1]
    return [k for n, k in enumerate(sent) if n < 5 or chance.random() > 0.03]


def test_a_sensor_that_is_killed_and_started_again_is_answered_in_both_its_epochs(tmp_path):
    words = ("feed", film(tmp_path / "film.mcap", 2000, 200), "--policy", "lossless", "--sensor", "cam")
    with running() as live:
        with started(*words, "--to", live.source.endpoint, "--epoch", 9) as first:
            until(lambda: len(live.noted.of(epoch=9)) > 20, "answers")
            first.kill()
        until(lambda: live.source.links["disconnected"], "the end of the link")
        with started(*words, "--to", live.source.endpoint, "--epoch", 2, "--limit", 40) as second:
            ended(second)
        until(lambda: len(live.noted.of(epoch=2)) == 36, "answers of the second epoch")
    status = live.status()
    assert live.noted.of(epoch=9) == list(range(2, status.frames - 40 - 2))
    assert live.noted.of(epoch=2) == list(range(2, 38))
    assert status.dropped == {"restart": 1}
    assert status.rejected == {}


def test_a_sensor_that_freezes_is_missed_and_goes_on_where_it_was(tmp_path):
    words = ("feed", film(tmp_path / "film.mcap", 200, 100), "--policy", "lossless", "--sensor", "cam", "--epoch", 1)
    with running(stall_s=0.5) as live, started(*words, "--to", live.source.endpoint) as child:
        until(lambda: len(live.noted.of()) > 20, "answers")
        child.send_signal(signal.SIGSTOP)
        until(lambda: live.source.stalled, "the silence")
        assert len(live.noted.of()) < 196
        silences = live.source.links["stalled"]
        child.send_signal(signal.SIGCONT)
        ended(child)
        until(lambda: len(live.noted.of()) == 196, "all answers")
        until(lambda: live.source.links["stalled"] > silences, "the next silence: the one before it had ended")
    assert live.noted.of() == list(range(2, 198))
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
        send(socket, *(patch(k) for k in sent))
        until(lambda: live.noted.of() == answered, f"answers {answered}")
    assert live.status().dropped == counted
    assert (whole(sent), verdicts(sent)) == (answered, counted), "what the next test goes by"


def test_many_frames_out_of_order_are_answered_exactly_where_windows_are_whole():
    sent = {name: disorder(600, seed) for seed, name in enumerate(("left", "right"))}
    with running() as live, sender(live.source.endpoint) as socket:
        for n in range(max(map(len, sent.values()))):
            send(socket, *(patch(indices[n], name) for name, indices in sent.items() if n < len(indices)))
        until(lambda: live.status().frames == sum(map(len, sent.values())), "all frames")
    for name, indices in sent.items():
        assert live.noted.of(name) == whole(indices)
        assert {reason: n for (s, reason), n in live.events.items() if s == name} == verdicts(indices)
        assert min(verdicts(indices).values()) > 5, "a fair trial"


@pytest.mark.parametrize(
    ("jump_ns", "pause_at"),
    [(-(10**9), None), (-HOUR_NS, 30), (-(10**18), 30), (HOUR_NS, 15)],
    ids=["a second back", "an hour back", "decades back", "an hour forth"],
)
def test_a_clock_that_jumps_and_comes_back_leaves_answers_and_latencies_sane(jump_ns, pause_at):
    with running() as live, sender(live.source.endpoint) as socket:
        for k in range(40):
            send(socket, patch(k, clock="unix", time_ns=time.time_ns() + (jump_ns if 15 <= k < 30 else 0)))
            until(lambda k=k: live.status().frames == k + 1)
    status = live.status()
    broken = range(pause_at - 2, pause_at + 2) if pause_at else ()
    assert live.noted.of() == [k for k in range(2, 38) if k not in broken]
    assert status.dropped == {"clock": 1, **({"pause": 1} if pause_at else {})}
    for stage in status.stages.values():
        assert all(0 <= p <= stage.longest for p in stage.percentiles)
        assert stage.longest < PATIENCE_S * 1e3, "a second is believed, of a clock that is an hour off nothing is said"
        assert 0 <= stage.total <= stage.samples * PATIENCE_S * 1e3


def test_after_an_hour_of_silence_a_window_starts_anew():
    with running(stall_s=0.1) as live, sender(live.source.endpoint) as socket:
        send(socket, *(patch(k) for k in range(10)))
        until(lambda: len(live.noted.of()) == 6)
        until(lambda: live.source.stalled, "the silence")
        send(socket, *(patch(k, time_ns=k * 10**7 + HOUR_NS) for k in range(10, 20)))
        until(lambda: len(live.noted.of()) == 12)
        assert live.source.links["stalled"] >= 1
    assert live.noted.of() == [*range(2, 8), *range(12, 18)]
    assert live.status().dropped == {"pause": 1}
