"""What tests of several commands use."""

import pytest

from irst_stream.cli import main


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(run):
    """Runs a command that must fail with one line and no traceback; returns that line."""

    def refused(*words):
        code, _, err = run(*words)
        lines = [line for line in err.splitlines() if not line.startswith(("inspect: ", "simulate: "))]
        assert code == 2, err
        assert len(lines) == 1, err
        assert "Traceback" not in err
        return lines[0]

    return refused


@pytest.fixture
def small(run):
    """A small SeqCSIST test split in data/test, and its cell-centre detections in cells.jsonl."""
    assert run("simulate", "seqcsist", "data", "--trajectories", 5, "--split", "test", "--workers", 1)[0] == 0
    assert run("baseline", "data/test", "cells.jsonl")[0] == 0
