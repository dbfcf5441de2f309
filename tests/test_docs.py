"""The documentation: every example runs, the settings page is what the code says, links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irst_stream import cli
from irst_stream.docs import FOLDER, ORDER, read_topic, settings_page
from irst_stream.io import media, registry, truth
from irst_stream.learn.methods import registered
from irst_stream.track.motion import MODELS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {page.relative_to(ROOT): page for page in [ROOT / "README.md", *FOLDER.glob("*.md"), *ROOT.glob(".github/*.md")]}
EXAMPLES = re.findall(r"^## (.+?)$.*?^```python\n(.*?)^```", read_topic("extending"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", [code for _, code in EXAMPLES], ids=[title for title, _ in EXAMPLES])
def test_every_example_of_a_part_of_ones_own_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(media, "READERS", media.READERS)
    monkeypatch.setattr(truth, "READERS", truth.READERS)
    tables = registry.SOURCES, registry.WRITERS, MODELS, registered()
    before = [dict(table) for table in tables]
    try:
        exec(compile(code, "extending.md", "exec"), {"__name__": "example"})
    finally:  # the other tests know nothing of it
        for table, known in zip(tables, before, strict=True):
            table.clear()
            table.update(known)


def test_there_is_an_example_of_each_part():
    assert [title for title, _ in EXAMPLES] == [
        "A file source",
        "A live source",
        "A network",
        "A method to compare",
        "A motion model",
        "A sink",
        "A format of truth",
        "A score",
    ]


def test_the_settings_page_is_generated():
    assert read_topic("settings") == settings_page(), "write it again: .venv/bin/python -m irst_stream.docs"


def test_every_setting_says_what_it_does():
    for row in re.findall(r"^\| `\w+` \|.*$", read_topic("settings"), re.MULTILINE):
        assert len(row.split("|")[3].split()) >= 2, row


@pytest.mark.parametrize("page", PAGES.values(), ids=map(str, PAGES))
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


def test_the_command_prints_every_page(capsys):
    assert cli.main(["docs"]) == 0
    listed = capsys.readouterr().out
    for topic in ORDER:
        assert topic in listed
        assert cli.main(["docs", topic]) == 0
        assert capsys.readouterr().out == read_topic(topic).rstrip() + "\n"


def test_the_readme_is_short():
    assert len(README.split()) <= 1000


def test_the_readmes_commands_and_its_python_run_as_they_stand(tmp_path):
    """In an empty folder, one after another."""
    (shell,) = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (python,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(shell.splitlines()) == 10
    folder = Path(sys.executable).parent
    assert shutil.which("irst-stream", path=folder)
    there = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for code in (shell, f"python - <<'CODE'\n{python}CODE\n"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env=there, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "('test/00000', 2)" in done.stdout
