"""What a deployment is: one TOML file, one frozen Config. Every shipped one stands in configs/."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings, check_conditioning
from irst_stream.errors import IrstError, UsageError
from irst_stream.fit.settings import FitSettings, check_fit
from irst_stream.http_settings import MetricsSettings, ViewSettings, address_faults
from irst_stream.io.file_series import series_fault
from irst_stream.io.lines_sink import WriteSettings
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.registry import WRITERS
from irst_stream.io.suffixes import JSON_LINES, RECORDING, suffix_fault
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings, link_fault
from irst_stream.io.zeromq.wire import SENSOR_NAME
from irst_stream.propose.settings import ProposeSettings, check_search
from irst_stream.psf_field import read_psf
from irst_stream.resolve.settings import ClaimSettings, Readout
from irst_stream.settings import about, parse_settings, parse_toml, read_text, settings_of
from irst_stream.track.settings import TrackSettings, check_tracking
from irst_stream.types import Policy
from irst_stream.unmix.settings import Backend

if TYPE_CHECKING:
    from irst_stream.unmix.engine import EngineManifest

__all__ = [
    "FILE_SETTINGS",
    "Config",
    "check_files",
    "config_of",
    "config_schema",
    "engine_faults",
    "files_of",
    "gpu_faults",
    "parse_config",
    "read_config",
    "with_files",
]

FILE_SETTINGS = ("correct.table", "fit.psf_table", "propose.clutter_map", "propose.mask")


@dataclass(frozen=True)
class Config:
    """What is known of the scene, how frames are read, where they come from and where results go."""

    window: Annotated[
        int,
        about(
            "Frames of a window, odd. More find fainter targets; detections come `lag` frames late.",
            ge=1,
            le=255,
        ),
    ] = 5
    lag: Annotated[
        int | None,
        about(
            "Frames of a window that follow the one it is measured at. Unset: half of them, which places targets best; 0:"
            " none, so that each frame is answered when it comes, less precisely. Readouts without a fit need half."
        ),
    ] = None
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
        about(
            'What runs the engine. "auto": TensorRT where plans of it work, else "rtx" (TensorRT for RTX, without plans)'
            " where it runs, else ONNX Runtime, else NumPy."
        ),
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
    keep_pace: Annotated[
        bool,
        about(
            "Policy live: where a frame's time is too short for all its regions, postpone fits from scratch, then leave out"
            " regions without a track, and count both (postponed, unserved). false: frames are dropped in their place."
        ),
    ] = True
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
    memory: Annotated[
        str,
        about(
            "File that keeps the track ids in use, the bad pixels and the static clutter of each sensor between two runs."
            " Empty: ids begin at 1."
        ),
    ] = ""
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    correct: CorrectSettings = field(default_factory=CorrectSettings)
    register: RegisterSettings = field(default_factory=RegisterSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    receive: tuple[ReceiveSettings, ...] = ()
    publish: tuple[PublishSettings, ...] = ()
    write: tuple[WriteSettings, ...] = ()
    record: tuple[RecordSettings, ...] = ()
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    view: ViewSettings = field(default_factory=ViewSettings)


def read_config(path: Path, *, here: bool = False) -> Config:
    """A configuration file; a FormatError lists all that is wrong with it, each by its dotted path.

    here: it is to run on this machine, so that the engine and the keys that it names must be there, and the engine must do.
    """
    return config_of(parse_toml(read_text(path), str(path)), str(path), path, here=here)


def config_of(table: dict[str, Any], where: str, path: Path, *, here: bool = False) -> Config:
    """The configuration of a TOML table; see read_config. where: what an error names; path: the file that it is from."""

    def faults(config: Config) -> Iterator[str]:
        found = with_paths_from(config, path.parent)
        return chain(_faults(found), _clashes(found, path), _suffix_faults(found), _lacks(found) if here else ())

    return with_paths_from(settings_of(table, where, Config, faults), path.parent)


def with_paths_from(config: Config, folder: Path) -> Config:
    """The configuration with the paths of the files that it names relative to its own folder."""
    return with_files(config, {setting: folder / name for setting, name in files_of(config).items()})


def files_of(config: Config) -> dict[str, str]:
    """The files that a configuration rests on, by the dotted path of the setting that names each."""
    named = {setting: str(attrgetter(setting)(config)) for setting in FILE_SETTINGS}
    return {setting: name for setting, name in named.items() if name}


def check_files(config: Config, path: Path) -> None:
    """Raise a UsageError for a file that a configuration rests on and that is not there; path: of the configuration."""
    for setting, name in files_of(config).items():
        if not Path(name).exists():
            raise UsageError(f"{path}: {setting}: {name}: no such file; it goes wherever the configuration goes")


def with_files(config: Config, files: Mapping[str, Path]) -> Config:
    """The configuration with other files, by the dotted path of the setting that names each."""
    for setting, path in files.items():
        section, name = setting.split(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: str(path)})})
    return config


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
        if fit.extended_odds:
            yield f"fit.extended_odds: a GPU fits point targets alone; expected 0, got {fit.extended_odds}"


def _faults(config: Config) -> Iterator[str]:
    """What no single value shows."""
    if config.window < 1 or config.window % 2 == 0:
        yield f"window: expected an odd number of frames, got {config.window}"
    yield from _lag_faults(config)
    if config.readout != "fit" and not config.engine:
        yield f"engine: missing; readout {config.readout!r} needs one"
    yield from gpu_faults(config)
    yield from address_faults(config.view, config.metrics)
    yield from _link_faults(config)
    checks = (
        partial(check_conditioning, config.correct, config.register),
        partial(check_fit, config.fit),
        partial(check_search, config.propose),
        partial(check_tracking, config.track),
    )
    for check in checks:
        try:
            check()
        except UsageError as error:
            yield str(error)
    yield from _output_faults(config)


def _lag_faults(config: Config) -> Iterator[str]:
    """Why a window cannot be measured at the frame that is asked for."""
    if config.lag is None:
        return
    half = config.window // 2
    if not 0 <= config.lag < config.window:
        yield f"lag: expected 0 to {config.window - 1} of the window's {config.window} frames, got {config.lag}"
    elif config.readout not in ("fit", "best") and config.lag != half:
        yield f"lag: readout {config.readout!r} measures the window's middle frame; expected {half}, got {config.lag}"


def _link_faults(config: Config) -> Iterator[str]:
    """What is wrong with the endpoints, each by itself and together."""
    for name, links in (("receive", config.receive), ("publish", config.publish)):
        for k, link in enumerate(links):
            key, fault = link_fault(link)
            if fault:
                yield f"{name}[{k}].{key}: {fault}"
        endpoints = [link.endpoint for link in links if link.endpoint and not link.endpoint.endswith(":*")]
        for endpoint in sorted({e for e in endpoints if endpoints.count(e) > 1}):
            yield f"{name}: {endpoint} is named twice"
    for k, given in enumerate(config.receive):
        for sensor in (s for s in given.sensors if not SENSOR_NAME.fullmatch(s)):
            yield f"receive[{k}].sensors: expected 1 to 64 letters, digits or any of _ . : -, got {sensor!r}"
    received = {given.endpoint for given in config.receive if not given.endpoint.endswith(":*")}
    for k, link in enumerate(config.publish):
        if link.endpoint and link.endpoint in received:
            yield f"publish[{k}].endpoint: {link.endpoint} is received from, too"


def _output_faults(config: Config) -> Iterator[str]:
    """What the paths of the outputs show."""
    seen: dict[Path, str] = {}
    for dotted, output in _outputs(config):
        if fault := series_fault(output) if dotted != "memory" else "":
            yield f"{dotted}: {fault}"
        elif (other := seen.setdefault(Path(output).resolve(), dotted)) != dotted:
            yield f"{dotted}: {output} is named twice, also in {other}"


def _suffix_faults(config: Config) -> Iterator[str]:
    """Outputs whose names promise another format than theirs."""
    for name, series, own in (("write", config.write, (*JSON_LINES, *WRITERS)), ("record", config.record, RECORDING)):
        for k, given in enumerate(series):
            if fault := suffix_fault(given.path, own):
                yield f"{name}[{k}].path: {fault}"


def _clashes(config: Config, path: Path) -> Iterator[str]:
    """Outputs that are inputs: the configuration itself, or a file that it names."""
    inputs = {path.resolve(): "the configuration itself"}
    for name in filter(None, (*files_of(config).values(), config.engine)):
        inputs.setdefault(Path(name).resolve(), "named as an input")
    for link in (*config.receive, *config.publish):
        for name in filter(None, (link.keys, link.server_key, link.allow)):
            inputs.setdefault(Path(name).resolve(), "a key")
    if config.view.token_file:
        inputs.setdefault(Path(config.view.token_file).resolve(), "the page's token")
    for dotted, output in _outputs(config):
        if (what := inputs.get(Path(output).resolve())) is not None:
            yield f"{dotted}: {output} is {what}"


def _outputs(config: Config) -> Iterator[tuple[str, str]]:
    """The dotted path and the path of each output file."""
    if config.memory:
        yield "memory", config.memory
    for name, series in (("write", config.write), ("record", config.record)):
        yield from ((f"{name}[{k}].path", given.path) for k, given in enumerate(series) if given.path)


def _lacks(config: Config) -> Iterator[str]:
    """What it names and this machine lacks, or has in a state in which it cannot be used."""
    from irst_stream.io.zeromq.curve_keys import allowed_keys, read_keys, read_secret_keys

    wanted: list[tuple[str, Callable[[], object]]] = []
    wanted += [(dotted, partial(_file_readers()[dotted], Path(name))) for dotted, name in files_of(config).items()]
    if config.readout != "fit" and config.engine:
        try:
            yield from engine_faults(config, _read_whole_engine(config.engine))
        except IrstError as error:
            yield f"engine: {error}"
    for name, links in (("receive", config.receive), ("publish", config.publish)):
        for k, link in enumerate(links):
            for key, read in (("keys", read_secret_keys), ("server_key", read_keys), ("allow", allowed_keys)):
                if path := getattr(link, key):
                    wanted.append((f"{name}[{k}].{key}", partial(read, Path(path))))
    wanted += [(dotted, partial(_check_writable, Path(output))) for dotted, output in _outputs(config)]
    for dotted, check in wanted:
        try:
            check()
        except IrstError as error:
            yield f"{dotted}: {str(error).removeprefix(f'{dotted}: ')}"


def _read_whole_engine(name: str) -> EngineManifest:
    """Return an engine's manifest; raise unless its weights and all of its graphs are there, unchanged."""
    from irst_stream.system.shipped import find_engine
    from irst_stream.unmix.engine import read_engine

    engine = read_engine(find_engine(name))
    for form in sorted({graph.form for graph in engine.manifest.graphs}):
        engine.graphs(form)
    return engine.manifest


def _check_writable(output: Path) -> None:
    """Raise unless a file can be made in an output's folder; a device or a pipe is not tried."""
    folder = output.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}")
    if output.is_dir():
        raise UsageError(f"{output} is a folder")
    if output.exists() and not output.is_file():
        return
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".irst-stream-")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror or error}") from error


def _file_readers() -> dict[str, Callable[[Path], object]]:
    """What reads each of the files that a configuration rests on."""
    from irst_stream.conditioning.nonuniformity import read_correction
    from irst_stream.propose.clutter import read_clutter_map
    from irst_stream.propose.mask import read_mask

    return dict(zip(FILE_SETTINGS, (read_correction, read_psf, read_clutter_map, read_mask), strict=True))
