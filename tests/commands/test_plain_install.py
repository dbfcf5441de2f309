"""The engine commands without the optional packages, and checkpoints that are none."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.io import savemat

from irst_stream.cli import main

WITHOUT_ONNX = "import sys; sys.modules['onnx'] = None; from irst_stream.cli import main; sys.exit(main(sys.argv[1:]))"


def test_only_what_writes_graphs_needs_onnx(tmp_path):
    np.save(tmp_path / "p.npy", np.full((6, 11, 11), 50, np.float32))

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_ONNX, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, out, _ = run("engine", "--help")
    assert code == 0
    assert "export" in out
    assert run("engine", "run", "seqcsist", "p.npy", "maps.npy", "--threads", "1")[0] == 0
    code, _, err = run("engine", "export", "seqcsist", "out")
    assert (code, err) == (2, "irst-stream: writing ONNX graphs needs onnx: pip install 'irst-stream[onnx]'\n")
    assert {p.name for p in tmp_path.iterdir()} == {"p.npy", "maps.npy"}


class Evil:
    def __reduce__(self):
        return os.system, ("false",)


@pytest.mark.parametrize("kind", ["code", "random", "empty", "other keys", "truncated", "not a dict"])
def test_a_checkpoint_that_is_none_is_one_line_without_advice_to_load_it_unchecked(kind, tmp_path, capsys):
    path = tmp_path / "c.pth"
    if kind == "code":
        path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    elif kind in ("other keys", "truncated", "not a dict"):
        torch.save([1] if kind == "not a dict" else {"weights": torch.zeros(3)}, path)
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:200])
    else:
        path.write_bytes(np.random.default_rng(0).bytes(2000) if kind == "random" else b"")
    savemat(tmp_path / "phi.mat", {"phi": np.zeros((121, 1089))})
    savemat(tmp_path / "q.mat", {"Qinit": np.zeros((1089, 121))})
    words = ["engine", "import", path, tmp_path / "out", "--phi", tmp_path / "phi.mat", "--qinit", tmp_path / "q.mat"]
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be read as a checkpoint; expected a PyTorch file that holds tensors" in said
    assert "weights_only" not in said
    assert not (tmp_path / "out").exists()
