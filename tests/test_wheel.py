"""A built wheel, in an environment of its own, used from another folder."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "-w", out, ROOT]
    subprocess.run(command, check=True)
    (built,) = out.glob("*.whl")
    return built


def test_it_carries_its_data_and_says_that_it_is_typed(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for config in (ROOT / "configs").glob("*.toml"):
        assert f"irst_stream/configs/{config.name}" in names
    assert "irst_stream/engines/README.md" in names
    assert "irst_stream/py.typed" in names
    pages = {f"irst_stream/docs/{page.name}" for page in (ROOT / "irst_stream" / "docs").glob("*.md")}
    assert {"irst_stream/docs/tutorial.md", "irst_stream/docs/settings.md"} <= pages
    assert {*pages, "irst_stream/io/INTERCHANGE.md", "irst_stream/io/zeromq/PROTOCOL.md", "irst_stream/fit/fit.cu"} <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "configs/", "engines/"))]


def test_it_installs_into_an_empty_environment_and_works_from_another_folder(wheel, tmp_path):
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python, program = environment / "bin" / "python", environment / "bin" / "irst-stream"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words):
        return subprocess.run([program, *words], cwd=elsewhere, capture_output=True, text=True, check=True).stdout

    run("simulate", "scene", "sky", "--frames", "2", "--config", "scene-sky", "--size", "64x64")
    assert "2 in 1 sequence" in run("inspect", "sky")
    run("simulate", "seqcsist", "data", "--trajectories", "2", "--split", "test")
    run("baseline", "data/test", "cells.jsonl")
    assert "CSO-mAP" in run("score", "cells.jsonl", "data/test")
    installed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    assert not {"torch", "matplotlib", "onnx"} & {line.split("==")[0] for line in installed.stdout.splitlines()}
