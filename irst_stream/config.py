"""What a deployment is: one TOML file, one frozen Config. Every shipped one stands in configs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irst_stream.resolve.claims import ClaimSettings
from irst_stream.resolve.fit import FitSettings
from irst_stream.resolve.readouts import Readout
from irst_stream.settings import read_settings

__all__ = ["Backend", "Config", "read_config"]

Backend = Literal["auto", "onnx", "openvino", "openvino-bf16", "numpy"]


@dataclass(frozen=True)
class Config:
    """What is known of the scene, and how it is read.

    window: frames of a window, odd. readout: "best", the network's answer or the fit's, whichever is surer; "network", its
    continuous head alone; "peaks" or "cells", its plain head; "fit", the imaging model alone, which needs no engine.
    """

    window: int = 5
    readout: Readout = "fit"
    engine: str = ""  # a folder, or the name of an engine that comes with the package
    backend: Backend = "auto"  # what runs the engine; auto: ONNX Runtime where it was exported, else NumPy
    threads: int = 1  # that it takes; 0 for all cores
    claims: ClaimSettings = field(default_factory=ClaimSettings)  # how the continuous head is read
    fit: FitSettings = field(default_factory=FitSettings)  # what is known of the targets, and how hard to look


def read_config(path: Path) -> Config:
    """A configuration file; a FormatError lists all that is wrong with it, each by its dotted path."""
    return read_settings(path, Config)
