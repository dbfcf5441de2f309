"""irst-stream warm-up, and what a first run says."""

import logging

import pytest

from irst_stream.cli import main
from irst_stream.commands import warm_up
from irst_stream.system import numba_cache
from irst_stream.system.numba_cache import CompiledPart, compile_in_children


def test_what_is_compiled_is_said(monkeypatch, capsys):
    monkeypatch.setattr(warm_up, "compile_everything", lambda: ["the search", "the fit"])
    assert main(["warm-up"]) == 0
    assert capsys.readouterr().out.startswith("compiled the search, the fit in ")


@pytest.mark.usefixtures("compiled")
def test_nothing_is_done_twice(capsys):
    assert main(["warm-up"]) == 0
    assert capsys.readouterr().out == "everything is compiled already\n"


class Children:
    """Processes that only note when they are begun, waited for and ended."""

    def __init__(self, fails=False):
        self.events, self.fails = [], fails

    def __call__(self, command, **_):
        self.events.append(f"begin {command[-1].rpartition(' ')[2]}")
        return self

    def wait(self):
        self.events.append("wait")
        if self.fails:
            self.fails = False
            raise KeyboardInterrupt

    def kill(self):
        self.events.append("kill")


def nothing():
    """Stands for what a part warms up."""


def parts(monkeypatch):
    monkeypatch.delenv(numba_cache.COMPILING, raising=False)
    monkeypatch.setattr(CompiledPart, "is_cached", property(lambda part: part.name == "kept"))
    return [CompiledPart(name, None, nothing) for name in ("one", "kept", "two")]


def test_all_parts_are_compiled_at_once_and_it_is_said_before(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    children = Children()
    monkeypatch.setattr(numba_cache.subprocess, "Popen", children)
    assert compile_in_children(*parts(monkeypatch), meanwhile="; senders wait") == ["one", "two"]
    assert children.events[:3] == ["begin nothing()"] * 2 + ["wait"]
    assert caplog.messages == [
        "compiling one, two, once on this machine, for about 20 s on two cores (irst-stream warm-up does it ahead);"
        " senders wait"
    ]


def test_an_interrupt_ends_what_compiles(monkeypatch):
    children = Children(fails=True)
    monkeypatch.setattr(numba_cache.subprocess, "Popen", children)
    with pytest.raises(KeyboardInterrupt):
        compile_in_children(*parts(monkeypatch))
    assert children.events.count("kill") == 2
