"""What a deployment is: one TOML file, one frozen Config. Every shipped one stands in configs/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from irst_stream.errors import IrstError, UsageError
from irst_stream.fit.settings import FitSettings, check_fit
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings, link_fault
from irst_stream.propose.settings import ProposeSettings, check_search
from irst_stream.resolve.settings import ClaimSettings, Readout
from irst_stream.settings import about, parse_settings, read_settings
from irst_stream.track.settings import TrackSettings, check_tracking
from irst_stream.types import Policy
from irst_stream.unmix.settings import Backend

if TYPE_CHECKING:
    from irst_stream.unmix.engine import EngineManifest

__all__ = [
    "Config",
    "MetricsSettings",
    "WriteSettings",
    "config_schema",
    "engine_faults",
    "gpu_faults",
    "parse_config",
    "read_config",
]


@dataclass(frozen=True)
class WriteSettings:
    """A file of JSON lines, begun from nothing."""

    path: Annotated[str, about("OUT.jsonl; a file of that name is written over.")]
    what: Annotated[Literal["detections", "tracks"], about("What is written.")] = "detections"


@dataclass(frozen=True)
class MetricsSettings:
    """Where Prometheus fetches metrics."""

    port: Annotated[int, about("TCP port; 0 switches metrics off.", ge=0, le=65535)] = 0
    host: Annotated[str, about("Address to listen on.")] = "127.0.0.1"


@dataclass(frozen=True)
class Config:
    """What is known of the scene, how frames are read, where they come from and where results go."""

    window: Annotated[
        int, about("Frames of a window, odd. More find fainter targets; detections come (window - 1) / 2 frames late.")
    ] = 5
    readout: Annotated[
        Readout,
        about(
            '"fit": the imaging model alone, without a network; "best": the fit, started from the network\'s answer too,'
            ' and the network\'s answer where no targets explain the light; "network": its continuous head alone; "peaks",'
            ' "cells": its fine map.'
        ),
    ] = "fit"
    tell_network: Annotated[
        bool, about("Tell the network what [fit] says of noise, PSF and brightness. false where these are guesses.")
    ] = True
    engine: Annotated[str, about("A folder, or the name of a bundled engine.")] = ""
    backend: Annotated[
        Backend,
        about('What runs the engine. "auto": TensorRT where plans of it work, else ONNX Runtime, else NumPy.'),
    ] = "auto"
    fit_on: Annotated[
        Literal["cpu", "gpu"], about('Where regions are fitted; "gpu" pays where a frame has dozens of them.')
    ] = "cpu"
    threads: Annotated[
        int, about("Threads for the engine, and for the fit of several regions; 0: one for each core.", ge=0, le=1024)
    ] = 1
    policy: Annotated[
        Policy, about('"live": the newest frames win, older ones are dropped; "lossless": whoever sends too fast waits.')
    ] = "live"
    queue: Annotated[
        int,
        about(
            "Frames that wait: of each sensor if live, of all if lossless. More bridge longer pauses, with later answers.",
            ge=1,
            le=100_000,
        ),
    ] = 16
    most_sensors: Annotated[int, about("Sensors served; frames of others are dropped and counted.", ge=1, le=256)] = 64
    forget_s: Annotated[float, about("Silence after which a sensor is forgotten, s.", gt=0, le=1e7)] = 600.0
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    receive: tuple[ReceiveSettings, ...] = ()
    publish: tuple[PublishSettings, ...] = ()
    write: tuple[WriteSettings, ...] = ()
    record: tuple[RecordSettings, ...] = ()
    metrics: MetricsSettings = field(default_factory=MetricsSettings)


def read_config(path: Path, *, here: bool = False) -> Config:
    """A configuration file; a FormatError lists all that is wrong with it, each by its dotted path.

    here: it is to run on this machine, so that the engine and the keys that it names must be there, and the engine must do.
    """

    def faults(config: Config) -> Iterator[str]:
        found = with_paths_from(config, path.parent)
        return chain(_faults(found), _lacks(found) if here else ())

    return with_paths_from(read_settings(path, Config, faults), path.parent)


def with_paths_from(config: Config, folder: Path) -> Config:
    """The configuration with the files that calibrate wrote beside it, which it names relative to its own folder."""

    def resolved(name: str) -> str:
        return str(folder / name) if name else ""

    fit = replace(config.fit, psf_table=resolved(config.fit.psf_table))
    return replace(config, fit=fit, propose=replace(config.propose, clutter_map=resolved(config.propose.clutter_map)))


def parse_config(text: str, where: str) -> Config:
    """A configuration's text, as a recording holds it; where: what an error names."""
    return parse_settings(text, where, Config, _faults)


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file."""
    return msgspec.json.schema(Config)


def engine_faults(config: Config, manifest: EngineManifest) -> Iterator[str]:
    """Why the engine that a configuration names does not do for its window or its readout."""
    if config.window not in manifest.windows:
        yield f"window: {config.engine} needs {manifest.windows[-1]} frames, or 1, got {config.window}"
    if config.readout == "network" and manifest.head != "continuous":
        yield f"engine: {config.engine} has a plain head; readout {config.readout!r} needs a continuous one"


def gpu_faults(config: Config) -> Iterator[str]:
    """What the fit on a GPU cannot do of a configuration."""
    if config.fit_on == "gpu":
        fit = config.fit
        if fit.formation.seats_px or fit.min_spacing_px:
            yield 'fit_on: fit.formation and fit.min_spacing_px are known to the CPU alone; expected "cpu"'
        if fit.sigma_doubt:
            yield f"fit.sigma_doubt: a GPU takes the optics as they are said to be; expected 0, got {fit.sigma_doubt}"


def _faults(config: Config) -> Iterator[str]:
    """What no single value shows."""
    if config.window < 1 or config.window % 2 == 0:
        yield f"window: expected an odd number of frames, got {config.window}"
    if config.readout != "fit" and not config.engine:
        yield f"engine: missing; readout {config.readout!r} needs one"
    yield from gpu_faults(config)
    for name, links in (("receive", config.receive), ("publish", config.publish)):
        for k, link in enumerate(links):
            key, fault = link_fault(link)
            if fault:
                yield f"{name}[{k}].{key}: {fault}"
        endpoints = [link.endpoint for link in links if link.endpoint and not link.endpoint.endswith(":*")]
        for endpoint in sorted({e for e in endpoints if endpoints.count(e) > 1}):
            yield f"{name}: {endpoint} is named twice"
    checks = (partial(check_fit, config.fit), partial(check_search, config.propose), partial(check_tracking, config.track))
    for check in checks:
        try:
            check()
        except UsageError as error:
            yield str(error)
    outputs = [path for path in (*(w.path for w in config.write), *(r.path for r in config.record)) if path]
    for path in sorted({path for path in outputs if outputs.count(path) > 1}):
        yield f"write, record: {path} is named twice"


def _lacks(config: Config) -> Iterator[str]:
    """What it names and this machine lacks, or has in a state in which it cannot be used."""
    from irst_stream.io.zeromq.curve_keys import allowed_keys, read_keys
    from irst_stream.system.shipped import find_engine
    from irst_stream.unmix.engine import read_engine

    if config.readout != "fit" and config.engine:
        try:
            yield from engine_faults(config, read_engine(find_engine(config.engine)).manifest)
        except IrstError as error:
            yield f"engine: {error}"
    wanted: list[tuple[str, Callable[[], object]]] = []
    for name, links in (("receive", config.receive), ("publish", config.publish)):
        for k, link in enumerate(links):
            for key, read in (("keys", read_keys), ("server_key", read_keys), ("allow", allowed_keys)):
                if path := getattr(link, key):
                    wanted.append((f"{name}[{k}].{key}", partial(read, Path(path))))
    for dotted, read_it in wanted:
        try:
            read_it()
        except IrstError as error:
            yield f"{dotted}: {error}"
