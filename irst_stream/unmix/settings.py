"""The backends that can run a network."""

from __future__ import annotations

from typing import Literal

__all__ = ["Backend"]

Backend = Literal["auto", "tensorrt", "tensorrt-fp32", "tensorrt-int8", "rtx", "onnx", "openvino", "openvino-bf16", "numpy"]
