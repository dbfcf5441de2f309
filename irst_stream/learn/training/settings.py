"""How a method is trained: one TOML for each, in configs/methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from irst_stream.errors import UsageError
from irst_stream.settings import about, read_settings
from irst_stream.system.shipped import configs_folder

__all__ = ["MethodTraining", "find_training", "trainings"]


@dataclass(frozen=True)
class MethodTraining:
    """A method, what it is shown, and how it learns. It ends after its frames or its minutes, whichever come first."""

    method: Annotated[str, about("The method's name.")]
    frames: Annotated[int, about("Frames (windows, for the window recipe) that it is shown.", ge=1)] = 100_000
    minutes: Annotated[float, about("Minutes of training at most; on a CPU of its own time for each thread.", gt=0)] = 1e9
    batch: Annotated[int, about("Frames or windows of a step.", ge=1, le=100_000)] = 64
    rate: Annotated[float, about("The highest learning rate.", gt=0)] = 1e-3
    patch: Annotated[int, about("Pixels a side of what the network sees, cut out around the light.", ge=5, le=11)] = 7
    division: Annotated[int, about("Fine cells a pixel, along each axis; odd.", ge=3, le=9)] = 3
    seed: Annotated[int, about("Of the weights and of the data.", ge=0)] = 1
    noise_dn: Annotated[tuple[float, float], about("Range of the frames' noise, DN.")] = (0.0, 5.0)
    still: Annotated[float, about("Share of CSIST-100K's images; the others are SeqCSIST's.", ge=0, le=1)] = 0.4
    precision: Annotated[Literal["bf16", "fp32"], about("Of the convolutions in training.")] = "bf16"
    start: Annotated[str, about("The method whose trained weights it starts from; for adversarial ones.")] = ""
    adversary: Annotated[float, about("Weight of the discriminator's verdict beside the squared error.", ge=0)] = 0.005
    adversary_width: Annotated[int, about("Channels of the discriminator's first level.", ge=4)] = 64
    reduced: Annotated[str, about("How it is smaller than the published one; printed in its row.")] = ""
    terms: Annotated[
        dict[str, float], about("Weights of the loss's terms beside the squared error, in units of light.")
    ] = field(default_factory=dict)
    network: Annotated[dict[str, int], about("Options of the network: widths, numbers of blocks.")] = field(
        default_factory=dict
    )


def find_training(name: str) -> MethodTraining:
    """Read the training settings of a method, given by its name or as the path of a TOML file."""
    path = Path(name)
    if path.suffix != ".toml":
        path = configs_folder() / "methods" / f"{name}.toml"
        if not path.is_file():
            raise UsageError(f"{name}: no training settings of that name; there are: {', '.join(trainings())}")
    return read_settings(path, MethodTraining, _faults)


def trainings() -> list[str]:
    """The names of all bundled training settings, in alphabetical order."""
    return sorted(path.stem for path in (configs_folder() / "methods").glob("*.toml"))


def _faults(settings: MethodTraining) -> Iterator[str]:
    low, high = settings.noise_dn
    if not 0 <= low <= high:
        yield f"noise_dn: expected 0 <= lowest <= highest, got {low:g} and {high:g}"
    for name in ("patch", "division"):
        value: Any = getattr(settings, name)
        if value % 2 == 0:
            yield f"{name}: expected an odd number, got {value}"
