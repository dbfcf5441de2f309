"""Read checkpoints of the reference toolkit and translate their arrays to this package's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.learn.network import BLOCKS, STAGES

__all__ = ["CLIP", "read_checkpoint", "read_matrix", "translate"]

CLIP = 20  # number of frames in the toolkit's clips
Array = NDArray[Any]

CONVOLUTIONS = {
    "TDDA.feat_extract.0.conv": "fuse.extract",
    "TDDA.feat_aggregate.conv0_s": "fuse.select.conv0_s",
    "TDDA.feat_aggregate.conv1_s": "fuse.select.conv1_s",
    "TDDA.feat_aggregate.conv_squeeze": "fuse.select.conv_squeeze",
    "TDDA.align_1": "fuse.align_1",
    "TDDA.align_1.conv_offset": "fuse.align_1.conv_offset",
    "TDDA.align_2": "fuse.align_2",
    "TDDA.align_2.conv_offset": "fuse.align_2.conv_offset",
    "TDDA.conv": "fuse.conv",
    "TDDA.tail_conv.0.conv": "fuse.merge",
    **{f"TDDA.tail_conv.1.{b}.{c}": f"fuse.blocks.{b}.{c}" for b in range(BLOCKS) for c in ("conv1", "conv2")},
    "TDDA.tail_conv.2": "fuse.tail",
    **{
        f"fcs.{k}.{c}_{way}": f"unfold.fcs.{k}.{c}_{way}"
        for k in range(STAGES)
        for c in ("conv1", "conv2")
        for way in ("forward", "backward")
    },
}
"""The name of every convolution in the toolkit, and its name here."""

UNBIASED = ("unfold.", "fuse.align_1", "fuse.align_2", "fuse.tail")


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Read the arrays of a checkpoint's state_dict, by their names in it. Only tensors are loaded, never code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in content["state_dict"].items()}
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes raise errors of any type, whose advice is to load the file without checks
        expected = "expected a PyTorch file that holds tensors and numbers only, under the key state_dict"
        raise SourceError(f"{path}: cannot be read as a checkpoint; {expected}") from error


def read_matrix(path: Path, name: str, shape: tuple[int, int]) -> Array:
    """Read one matrix of this shape from a .mat file, as float32."""
    try:
        matrix = np.asarray(scipy.io.loadmat(path, variable_names=[name])[name], np.float32)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # scipy raises many kinds of error on invalid files
        raise SourceError(f"{path}: cannot read matrix {name!r} ({error})") from error
    if matrix.shape != shape:
        raise SourceError(f"{path}: {name}: expected {shape[0]} x {shape[1]}, got {' x '.join(map(str, matrix.shape))}")
    return matrix


def translate(state: dict[str, Array], phi: Array, qinit: Array) -> dict[str, Array]:
    """Rename and reshape the toolkit's arrays to those of DeRefNet.

    phi (pixels, cells), qinit (cells, pixels). The toolkit's time code, W (t / 20 x ones) + b, becomes a slope, the row
    sums of W, and the bias b.
    """
    w = _take(state, "TDDA.mlp.weight", "TDDA.mlp.0.weight")
    ours = {
        "unfold.phi": phi,
        "unfold.qinit": qinit,
        "code.slope": w.sum(axis=1),
        "code.bias": _take(state, "TDDA.mlp.bias", "TDDA.mlp.0.bias"),
    }
    for k in range(STAGES):
        for name in ("lambda_step", "soft_thr"):
            ours[f"unfold.fcs.{k}.{name}"] = _take(state, f"fcs.{k}.{name}").reshape(())
    for theirs, name in CONVOLUTIONS.items():
        weight = _take(state, f"{theirs}.weight", theirs)
        ours[f"{name}.weight"] = weight
        if name.endswith("conv_offset") or not name.startswith(UNBIASED):
            ours[f"{name}.bias"] = state.get(f"{theirs}.bias", np.zeros(len(weight), np.float32))
    return ours


def _take(state: dict[str, Array], *names: str) -> Array:
    """The first array found under one of the names, which differ between the toolkit's versions."""
    for name in names:
        if name in state:
            return state[name]
    raise SourceError(f"the checkpoint has no array {names[0]}; expected a DeRefNet of the reference toolkit")
