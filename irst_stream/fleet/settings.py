"""The file of a fleet: its sensors, each with a configuration of `irst-stream run`, and one address for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from irst_stream.config import Config, config_of
from irst_stream.errors import FormatError, IrstError
from irst_stream.http_settings import MetricsSettings, ViewSettings, address_faults
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.wire import SENSOR_NAME
from irst_stream.settings import about, parse_toml, read_text, settings_of, to_toml
from irst_stream.system.shipped import find_config

__all__ = [
    "Fleet",
    "FleetConfig",
    "FleetSettings",
    "SensorPlan",
    "SensorSettings",
    "fleet_schema",
    "is_fleet",
    "read_fleet",
]

PLACEHOLDER = "{sensor}"
REPLACED = ("receive", "view", "metrics", "memory")  # of a configuration: the fleet says these itself


@dataclass(frozen=True)
class FleetSettings:
    """How the sensors are spread, and what is kept of them."""

    config: Annotated[
        str, about("Configuration of the sensors that name none: a TOML file, or the name of a bundled one.")
    ] = ""
    state: Annotated[
        str,
        about("Folder of each sensor's memory and of the numbers of its starts; it is made if it is missing."),
    ] = "fleet-state"
    workers: Annotated[
        int,
        about(
            "Processes that share the sensors; 0: one for each core. More isolate sensors better, and take 250 MB each.",
            ge=0,
            le=4096,
        ),
    ] = 0
    lease_s: Annotated[
        float,
        about(
            "Silence between supervisor and worker, s, after which the worker ends itself; its sensors move a second later."
            " Less moves them sooner, and ends workers that are merely held up.",
            ge=1,
            le=3600,
        ),
    ] = 3.0
    rebalance: Annotated[
        bool, about("Move a sensor, at most one in ten seconds, where one worker is much busier than another.")
    ] = True


@dataclass(frozen=True)
class SensorSettings:
    """One sensor."""

    name: Annotated[str, about("The name that its frames bear; frames of other names are rejected.")]
    receive: Annotated[ReceiveSettings, about("Where its frames come from, the keys of [[receive]].")]
    config: Annotated[str, about("Its configuration; empty: that of [fleet].")] = ""
    publish: Annotated[
        tuple[PublishSettings, ...], about("Where its results are sent to, in place of its configuration's [[publish]].")
    ] = ()
    alone: Annotated[
        bool,
        about("Run it in a worker of its own, besides those of [fleet]: one that may flood, or crash, disturbs no other."),
    ] = False
    set: Annotated[
        dict[str, Any], about("Settings of its own, laid over its configuration: [sensor.set.fit] sigma_px = 0.6.")
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetConfig:
    """The whole file."""

    fleet: FleetSettings = field(default_factory=FleetSettings)
    sensor: tuple[SensorSettings, ...] = ()
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    view: ViewSettings = field(default_factory=ViewSettings)


class SensorPlan(NamedTuple):
    """A sensor that is to run: its name, its whole configuration, and that as TOML, for its recordings.

    alone: in a worker of its own.
    """

    name: str
    config: Config
    text: str
    alone: bool = False


class Fleet(NamedTuple):
    """A file of a fleet, and its sensors by name."""

    settings: FleetConfig
    sensors: dict[str, SensorPlan]


def fleet_schema() -> dict[str, Any]:
    """The JSON Schema of a fleet's file."""
    return msgspec.json.schema(FleetConfig)


def is_fleet(path: Path) -> bool:
    """Whether a TOML file is that of a fleet, not of one pipeline; raise a FormatError if it is no TOML."""
    table = parse_toml(read_text(path), str(path))
    return "fleet" in table or "sensor" in table


def read_fleet(path: Path, *, here: bool = False) -> Fleet:
    """Read a fleet's file and all configurations that it names; a FormatError lists all that is wrong.

    here: the sensors are to run on this machine, see config.read_config.
    """
    table = parse_toml(read_text(path), str(path))
    if not {"fleet", "sensor"} & set(table):
        raise FormatError(f"{path}: expected [fleet] and [[sensor]]; irst-stream run runs a single configuration")
    config = settings_of(table, str(path), FleetConfig, _faults)
    plans: dict[str, SensorPlan] = {}
    faults: list[str] = []
    for sensor in config.sensor:
        try:
            plans[sensor.name] = _plan(config.fleet, sensor, path, here)
        except IrstError as error:
            faults.append(f"sensor {sensor.name}: {error}")
    if faults := [*faults, *_clashes(plans)]:
        raise FormatError(f"{path}: {'; '.join(faults)}")
    return Fleet(config, plans)


def _faults(config: FleetConfig) -> Iterator[str]:
    """What no single value shows."""
    if not config.sensor:
        yield "sensor: missing; expected at least one [[sensor]] with name and receive"
    for name, count in Counter(sensor.name for sensor in config.sensor).items():
        if count > 1:
            yield f"sensor: {count} have the name {name!r}; expected one of each name"
    for k, sensor in enumerate(config.sensor):
        if not SENSOR_NAME.fullmatch(sensor.name):
            yield f"sensor[{k}].name: expected 1 to 64 letters, digits or any of _ . : -, got {sensor.name!r}"
        if not (sensor.config or config.fleet.config):
            yield f"sensor[{k}].config: missing; name one here, or for all in [fleet]"
        if sensor.receive.sensors:
            yield f"sensor[{k}].receive.sensors: the sensor's name stands in its place; expected none"
        for key in sorted({*REPLACED, "publish"} & set(sensor.set)):
            yield f"sensor[{k}].set.{key}: the fleet says this itself; expected none"
    yield from address_faults(config.view, config.metrics)


def _plan(fleet: FleetSettings, sensor: SensorSettings, path: Path, here: bool) -> SensorPlan:
    """A sensor's configuration: its file, its own settings laid over it, and its ends of the connections."""
    named = sensor.config or fleet.config
    local = path.parent / named
    source = local if local.is_file() else find_config(named)
    table = _overlaid(parse_toml(read_text(source), str(source)), sensor.set)
    for key in REPLACED:
        table.pop(key, None)
    table["receive"] = [msgspec.to_builtins(replace(sensor.receive, sensors=(sensor.name,)))]
    if sensor.publish:
        table["publish"] = [msgspec.to_builtins(link) for link in sensor.publish]
    for key, place in (("write", "path"), ("record", "path"), ("publish", "endpoint")):
        rows = table.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get(place), str):
                row[place] = row[place].replace(PLACEHOLDER, sensor.name)
    config = config_of(table, str(source), source, here=here)
    return SensorPlan(sensor.name, config, to_toml(table), sensor.alone)


def _overlaid(table: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A table with another laid over it: tables are merged, all other values replaced."""
    merged = {key: _overlaid(value, {}) if isinstance(value, Mapping) else value for key, value in table.items()}
    for key, value in own.items():
        under = merged.get(key)
        merged[key] = _overlaid(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _clashes(plans: Mapping[str, SensorPlan]) -> Iterator[str]:
    """What two sensors cannot have both: a bound endpoint, a lossless sender, an output file."""
    seen: dict[tuple[str, str], str] = {}

    def taken(name: str, kind: str, place: str) -> Iterator[str]:
        other = seen.setdefault((kind, place), name)
        if other != name:
            yield f"sensor {name}: {place} is {other}'s, too ({kind})"

    for name, plan in plans.items():
        config = plan.config
        for link in (*config.receive, *config.publish):
            if link.bind and not link.endpoint.endswith((":*", ":0")):
                yield from taken(name, "bound", link.endpoint)
        if config.policy == "lossless":
            for given in config.receive:
                yield from taken(name, "a lossless sender serves one", given.endpoint)
        for output in (*config.write, *config.record):
            yield from taken(name, "written; {sensor} in the path stands for the name", str(Path(output.path).resolve()))
