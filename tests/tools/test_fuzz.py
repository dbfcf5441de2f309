"""The fuzzers run, find what is not one clear line, and say how to see it again."""

import random

import pytest
from fuzz import TARGETS, main, mutate, run

from irst_stream.io.zeromq import wire


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name, tmp_path):
    outcomes, _ = run(name, 100, 3, tmp_path)
    assert outcomes.total() == 100


def test_a_fault_is_kept_with_its_seed_and_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calls = []

    def broken(parts):
        calls.append(parts)
        if len(calls) == 5:
            raise KeyError("x")

    monkeypatch.setattr(wire, "decode", broken)
    assert main(["wire", "--cases", "50", "--seed", "9"]) == 1
    assert capsys.readouterr().out == "wire: seed 9, case 4: kept as fuzz-wire-9-4.bin\nwire: KeyError: 'x'\n"
    assert (tmp_path / "fuzz-wire-9-4.bin").is_file()


def test_the_same_seed_gives_the_same_cases():
    cases = [[mutate(b"abcdefgh" * 9, rng) for _ in range(200)] for rng in (random.Random(4), random.Random(4))]
    assert cases[0] == cases[1]
    assert len(set(cases[0])) > 150
