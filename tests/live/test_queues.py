"""The bounded queues between threads: fair, counted, never full for long."""

from collections import Counter

import pytest
from local_feeds import small_frame

from irst_stream.live.queues import OTHERS, Arrival, Intake, Outbox, QueuedRecord

PATCH_FEEDS = {f"patch-{k}": 20 for k in range(20)}


def test_many_sensor_names_do_not_fill_the_memory():
    intake = Intake("live", 4, most_sensors=3)
    for k in range(1000):
        intake.put(Arrival(small_frame(0, f"s{k}"), 0, 0))
    assert len(intake.seen) == 3
    assert len(intake.dropped) <= 4
    assert sum(intake.dropped.values()) == 997


def test_overruns_of_a_forgotten_sensor_stay_counted():
    intake = Intake("live", 1, most_sensors=3)
    for k in range(3):
        intake.put(Arrival(small_frame(k, "a"), 0, 0))
    intake.take()
    assert intake.forget(0) == ["a"]
    assert intake.dropped == {(OTHERS, "overrun"): 2}


def test_an_outbox_is_bounded_in_bytes_too():
    box = Outbox("live")
    for k in range(10):
        box.put(QueuedRecord(small_frame(k, shape=(4096, 8192)), 0))  # 64 MiB each
    assert (len(box), box.lost) == (4, 6)


def test_a_sink_that_hangs_puts_nothing_off():
    box = Outbox("live")
    box.settle(20.0)  # there is nothing to write
    box.put(QueuedRecord(small_frame(0), 0))
    box.settle(0.0)  # nobody has taken it
    assert box.take() is not None
    box.settle(0.0)  # it is in hand
    assert box.take(0.0) is None
    box.settle(20.0)


def served(costs_ms, rates_hz, seconds, depth=16):
    """The share of each sensor's frames that is taken in simulated time, where one thread computes all.

    costs_ms: computing time of a frame; rates_hz: frames/s; both by sensor.
    """
    intake, now_ns, taken = Intake("live", depth, most_sensors=len(rates_hz)), 0, Counter()
    due = sorted((round(k * 1e9 / rate), name) for name, rate in rates_hz.items() for k in range(int(rate * seconds)))
    while due:
        while due and due[0][0] <= now_ns:
            intake.put(Arrival(small_frame(0, due.pop(0)[1]), 0, 0))
        if not intake.waiting:
            now_ns = due[0][0]
            continue
        names = [arrival.frame.stamp.sensor for arrival in intake.take()]
        taken.update(names)
        now_ns += sum(costs_ms[name] * 1_000_000 for name in names)
        intake.charge({name: costs_ms[name] * 1_000_000 for name in names})
    return {name: taken[name] / int(rate * seconds) for name, rate in rates_hz.items()}


def test_a_slow_sensor_takes_no_time_that_others_need():
    costs = dict.fromkeys(PATCH_FEEDS, 1) | {"slow": 200}
    shares = served(costs, PATCH_FEEDS | {"slow": 25}, 10)
    assert min(shares[name] for name in PATCH_FEEDS) > 0.97, "but for those that wait at the end"
    assert 0.08 < shares["slow"] < 0.13, "what is left: 0.6 of a core for 5 cores' worth"


def test_a_flooding_sensor_takes_no_time_that_others_need():
    costs = dict.fromkeys(PATCH_FEEDS, 1) | {"flood": 1}
    shares = served(costs, PATCH_FEEDS | {"flood": 2000}, 5)
    assert min(shares[name] for name in PATCH_FEEDS) > 0.97, "but for those that wait at the end"
    assert shares["flood"] == pytest.approx(0.6 / 2.0, abs=0.02)


def test_sensors_that_all_want_too_much_get_as_many_frames_each():
    rates = {"a": 100, "b": 100, "c": 50}
    shares = served({"a": 10, "b": 10, "c": 40}, rates, 10)
    assert [shares[name] * rate for name, rate in rates.items()] == pytest.approx([1000 / 60] * 3, rel=0.1)
    shares = served({"a": 10, "b": 10, "c": 160}, rates, 10)
    a, b, c = (shares[name] * rate for name, rate in rates.items())
    assert (a, b) == (pytest.approx(2 * c, rel=0.15), pytest.approx(2 * c, rel=0.15)), "16 times as slow, tolerated 8"


def test_who_was_silent_has_saved_nothing_up():
    intake = Intake("live", 16, most_sensors=2)
    for k in range(10):
        intake.put(Arrival(small_frame(k, "busy"), 0, 0))
        intake.take()
        intake.charge({"busy": 10**8})
    for k in range(10):
        for name in ("busy", "late"):
            intake.put(Arrival(small_frame(k, name), 0, 0))
    order = []
    while intake.waiting:
        names = [arrival.frame.stamp.sensor for arrival in intake.take()]
        order += names
        intake.charge(dict.fromkeys(names, 10**8))
    assert max(abs(order[:k].count("busy") - order[:k].count("late")) for k in range(1, 21)) <= 2
