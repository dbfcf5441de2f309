"""Commands as processes: interrupts, ends of their parents, terminals and pipes."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest


@pytest.fixture
def working(tmp_path):
    """A function that starts a long simulate in its own process group and returns it once its first frame is written."""
    frames = tmp_path / "sky" / "frames"
    command = [sys.executable, "-m", "irst_stream.cli", "simulate", "scene", "sky", "--frames", "3000", "--workers", "2"]

    def start():
        child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while child.poll() is None and not (frames.is_dir() and any(p.suffix == ".png" for p in frames.iterdir())):
            os.sched_yield()
        return child

    start.command, start.frames = command, frames
    return start


def ended(group):
    """Wait until no process of a group is left; return whether that happened."""
    for _ in range(10_000_000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        os.sched_yield()
    return False


def test_an_interrupt_while_a_command_is_being_loaded_is_one_line():
    code = "from irst_stream import cli; import signal; "
    code += "cli.import_module = lambda _: signal.raise_signal(signal.SIGINT); cli.main(['doctor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "irst-stream: interrupted\n")


@pytest.mark.parametrize(("signum", "to_group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)])
def test_an_interrupt_ends_with_130_and_the_next_run_continues(signum, to_group, working, tmp_path):
    child = working()
    (os.killpg if to_group else os.kill)(child.pid, signum)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-1] == "irst-stream: interrupted"
    assert "Traceback" not in err
    assert ended(child.pid), "no worker is left"
    assert not list((tmp_path / "sky").rglob("*.part"))
    there = len(list(working.frames.iterdir()))
    assert 0 < there < 3000
    again = working()
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=60)
    assert len(list(working.frames.iterdir())) >= there


def test_workers_end_when_their_parent_is_killed(working):
    child = working()
    child.kill()
    child.communicate(timeout=60)
    assert ended(child.pid)


def test_two_runs_do_not_fill_one_folder_at_once(working, tmp_path):
    child = working()
    second = subprocess.run(working.command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    os.killpg(child.pid, signal.SIGINT)
    child.communicate(timeout=60)
    assert second.returncode == 2
    assert second.stderr == "irst-stream: sky: another run is filling this folder; wait for it, or choose another\n"


def test_a_terminal_gets_a_bar(tmp_path):
    shown, terminal = pty.openpty()
    command = [sys.executable, "-m", "irst_stream.cli", "simulate", "csist100k", "a", "--images", "1500", "--split", "val"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    said = []

    def listen():
        with contextlib.suppress(OSError):  # raised when the other end of the terminal is closed
            while part := os.read(shown, 4096):
                said.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    listener.join(timeout=60)
    os.close(shown)
    assert b"1500/1500" in b"".join(said)


def test_a_closed_pipe_is_not_an_error():
    command = f"{sys.executable} -m irst_stream.cli schema | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
