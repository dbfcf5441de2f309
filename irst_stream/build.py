"""From a Config to the objects that run: the only factory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

from irst_stream.chain.front_end import FrontEnd
from irst_stream.chain.pace import FramePace
from irst_stream.chain.pipeline import Pipeline, Result
from irst_stream.chain.platform import PoseHistory
from irst_stream.chain.sensor import Network, NoNetwork, SensorChain, SensorTracker
from irst_stream.chain.window import Events, WindowBuilder
from irst_stream.conditioning.nonuniformity import read_correction
from irst_stream.conditioning.registration import COMPILED as REGISTRATION
from irst_stream.config import Config, engine_faults, files_of, gpu_faults, read_config
from irst_stream.errors import DeviceError, FormatError, UsageError
from irst_stream.fit.fitter import COMPILED as FIT
from irst_stream.fit.fitter import Fitter, priors_of, psf_of
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.registry import open_live_source, open_publisher, open_writer
from irst_stream.live.memory_file import MemoryFile
from irst_stream.live.runner import Runner
from irst_stream.optics import PATCH, FineGrid
from irst_stream.propose.contrast import COMPILED as CONTRAST
from irst_stream.propose.mask import read_mask
from irst_stream.propose.proposer import COMPILED as SEARCH
from irst_stream.protocols import Record, Sink, Source
from irst_stream.resolve.readouts import FitResolver, NetworkResolver, Resolver
from irst_stream.settings import refuse
from irst_stream.system.gpu_probe import ask_cuda_driver
from irst_stream.system.machine import usable_cores
from irst_stream.system.numba_cache import compile_in_children, is_compiled
from irst_stream.system.shipped import find_config, find_engine
from irst_stream.track.tracker import COMPILED as TRACKER
from irst_stream.track.tracker import Tracker
from irst_stream.types import Detections, Stamp, Tracks
from irst_stream.unmix.backends import GPU_BACKENDS, build_unmixer, choose_backend, fallback_unmixers
from irst_stream.unmix.engine import Engine, EngineManifest, read_engine
from irst_stream.unmix.stream import WindowUnmixer
from irst_stream.unmix.told import UNKNOWN_SENSOR, SensorFacts

__all__ = [
    "build_pipeline",
    "build_runner",
    "compile_everything",
    "front_end_maker",
    "make_tracker",
    "open_pipeline",
    "resolver_maker",
    "told_of",
]

log = logging.getLogger(__name__)

PARTS = (FIT, TRACKER, SEARCH, REGISTRATION, CONTRAST)  # all that is compiled, the longest first
MEANWHILE = {"live": "; of the frames received meanwhile, the newest are kept", "lossless": "; meanwhile, senders wait"}
KINDS: dict[str, type[Result]] = {"detections": Detections, "tracks": Tracks}


def build_runner(
    config: Config,
    config_toml: str = "",
    more_sinks: Mapping[str, Sink] | None = None,
    *,
    least_id: int = 1,
    done: Callable[[str, Record], None] | None = None,
) -> Runner:
    """A pipeline with its sources and sinks, sockets open; it receives while code is compiled that is not yet.

    config_toml: the configuration's text, for recordings; more_sinks: further sinks by name, besides the configuration's;
    least_id: of the first track, at least, where there is a memory; done: see live.runner.Runner.
    """
    makers, more = _sink_makers(config, config_toml), dict(more_sinks or {})
    tracks = _wants_tracks(config) or any(Tracks in sink.takes for sink in more.values())
    with ExitStack() as opened:  # closed again where a later one fails
        memory = opened.enter_context(closing(MemoryFile(Path(config.memory), least_id))) if config.memory else None
        pace = FramePace() if config.keep_pace and config.policy == "live" else None
        pipeline = build_pipeline(config, tracks=tracks, memory=memory, pace=pace, meanwhile=MEANWHILE[config.policy])
        sources: dict[str, Source] = {}
        for given in config.receive:
            sources[given.endpoint] = opened.enter_context(closing(open_live_source(given, config.policy)))
        sinks = {name: opened.enter_context(closing(make())) for name, make in makers.items()}
        opened.pop_all()
    limits = {"depth": config.queue, "most_sensors": config.most_sensors}
    made = sinks | more
    return Runner(pipeline, sources, made, config.policy, **limits, forget_s=config.forget_s, memory=memory, done=done)


def _sink_makers(config: Config, config_toml: str) -> dict[str, Callable[[], Sink]]:
    """What makes each sink, by the sink's name."""
    makers: dict[str, Callable[[], Sink]] = {}
    makers |= {p.endpoint: partial(open_publisher, p, config.policy) for p in config.publish}
    files = {setting: _read_file(setting, Path(name)) for setting, name in files_of(config).items()}
    makers |= {r.path: partial(Recorder, r, config_toml, files=files) for r in config.record}
    return makers | {w.path: partial(open_writer, w, KINDS[w.what]) for w in config.write}


def _read_file(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{setting}: {path}: {error.strerror or error}") from error


def _wants_tracks(config: Config) -> bool:
    return bool(config.publish or config.record or any(KINDS[w.what] is Tracks for w in config.write))


def open_pipeline(config: str | Path | Config, *, tracks: bool = False) -> Pipeline:
    """Make a pipeline of a bundled configuration's name, a TOML file, or a Config; tracks: follow targets too.

    The first pipeline on a machine compiles the fit and the tracker, which takes about 20 s on two cores.
    """
    known = config if isinstance(config, Config) else read_config(find_config(str(config)))
    return build_pipeline(known, tracks=tracks)


def build_pipeline(
    config: Config,
    *,
    tracks: bool = False,
    memory: MemoryFile | None = None,
    pace: FramePace | None = None,
    new_tracker: Callable[[int], SensorTracker] | None = None,
    meanwhile: str = "",
) -> Pipeline:
    """All that stands between frames and detections, or tracks where these are asked for.

    memory: of an earlier run; pace: that of live sensors, with which the fits keep up; new_tracker: makes a sensor's
    tracker, given its first track's id, None for make_tracker; meanwhile: what goes on while code is compiled, for the log:
    the pipeline's get_ready then waits for that, rather than this call; "" where nothing does.
    """
    new_tracker = new_tracker or partial(make_tracker, config)
    network: Network = NoNetwork()
    engine = None if config.readout == "fit" else _engine(config)
    manifest = engine.manifest if engine else None
    _refuse_faults(config, manifest)
    psf = psf_of(config.fit).middle.with_width(config.propose.sigma_px) if config.propose.psf_shaped else None
    new_front_end = front_end_maker(config)
    compiling = _Compiling(config, manifest, tracks, meanwhile)
    if engine:
        network = _network(config, engine)
    helper = ThreadPoolExecutor(1, "search") if (config.threads or usable_cores()) > 1 else None
    min_shape = manifest.patch if manifest else (1, 1)

    def new_sensor(events: Events, first_id: int) -> SensorChain:
        windows = WindowBuilder(config.window, config.propose, min_shape, events, psf, config.lag, helper)
        tracker = new_tracker(first_id) if tracks else None
        poses = PoseHistory(config.window, config.lag)
        parts = (new_front_end(windows.count), windows, poses, network.new_maps(), compiling.new_resolver(), tracker)
        return SensorChain(*parts, most_targets=_most_targets(config))

    memories, first_id = (memory.memories, memory.first_id) if memory else (None, 1)
    return Pipeline(network, new_sensor, memories, first_id, pace, compiling.wait)


class _Compiling:
    """The compilation of what a pipeline uses; at once, or, where something goes on meanwhile, in a thread of its own."""

    def __init__(self, config: Config, manifest: EngineManifest | None, tracks: bool, meanwhile: str) -> None:
        conditions = config.correct.changes_pixels or config.register.when != "off"
        used = {
            FIT: True,
            TRACKER: tracks,
            SEARCH: True,
            REGISTRATION: conditions,
            CONTRAST: config.propose.min_contrast > 0,
        }
        parts = [part for part in PARTS if used[part]]
        done = Future[Callable[[], Resolver]]()

        def work() -> None:
            try:
                compile_in_children(*parts, meanwhile=meanwhile)  # all at once, before each is loaded
                new_resolver = resolver_maker(config, manifest)
                for part in parts:
                    part.warm_up()
                done.set_result(new_resolver)
            except BaseException as error:
                done.set_exception(error)

        self._done = done
        if meanwhile and not is_compiled(*parts):
            Thread(target=work, name="compile", daemon=True).start()
        else:
            work()
            self.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all is compiled, at most `seconds`; return whether it is. Raises the error that prevented it."""
        if not wait([self._done], seconds).done:
            return False
        self._done.result()
        return True

    def new_resolver(self) -> Resolver:
        """Return one more sensor's reader, once all is compiled."""
        return self._done.result()()


def _engine(config: Config) -> Engine:
    if not config.engine:
        raise UsageError(f"engine: readout {config.readout!r} needs one; name a folder, or a bundled engine")
    return read_engine(find_engine(config.engine))


def front_end_maker(config: Config) -> Callable[[Callable[[Stamp, str], None]], FrontEnd]:
    """What makes a sensor's front end, given what counts an event of a frame."""
    table = read_correction(Path(config.correct.table)) if config.correct.table else None
    mask = ~read_mask(Path(config.propose.mask)) if config.propose.mask and config.register.when != "off" else None
    return partial(FrontEnd, config.correct, table, config.register, mask)


def _most_targets(config: Config) -> int:
    """How many targets of a region the readout looks for; 1 where the number is known, or not limited."""
    if config.readout in ("cells", "peaks") or config.fit.formation.seats_px:
        return 1
    by_fit, by_network = config.fit.most_targets, config.claims.most_targets
    return {"fit": by_fit, "network": by_network}.get(config.readout, max(by_fit, by_network))


def _network(config: Config, engine: Engine) -> WindowUnmixer:
    choice = choose_backend(engine, config.backend)
    log.info("network: %s", choice.description)
    with_map = config.readout in ("cells", "peaks")
    fallbacks = fallback_unmixers(engine, choice, config.threads, with_map=with_map)
    try:
        unmixer = build_unmixer(engine, choice, config.threads, with_map=with_map)
    except DeviceError as error:
        if config.backend != "auto":
            raise
        *_, (description, build) = fallbacks
        log.error("network: %s does not start (%s); %s", choice.description, error, description)
        unmixer = build()
    aside = choice.backend not in GPU_BACKENDS
    return WindowUnmixer(unmixer, engine.manifest, fallbacks, told_of(config), runs_aside=aside)


def compile_everything() -> list[str]:
    """Compile what pipelines compile on their first use, if it is not yet; return the names of what was compiled."""
    return compile_in_children(*PARTS)


def told_of(config: Config) -> SensorFacts:
    """What a configuration has its network know of the sensor."""
    if not config.tell_network:
        return UNKNOWN_SENSOR
    fit = config.fit
    noise = math.nan if fit.noise_dn is None else math.hypot(fit.noise_dn, fit.fixed_dn)
    return noise, fit.sigma_px, fit.amplitude_dn, fit.amplitude_sd_dn


def make_tracker(config: Config, first_id: int = 1) -> Tracker:
    """A sensor's tracker: neighbouring windows share all their frames but one, and come in order."""
    given = config.track
    frames, lag = given.shared_frames or config.window, config.lag if given.shared_lag is None else given.shared_lag
    return Tracker(replace(given, shared_frames=frames, shared_lag=lag, late_s=0.0), first_id=first_id)


def resolver_maker(config: Config, manifest: EngineManifest | None) -> Callable[[], Resolver]:
    """What makes a sensor's reader; all readers share one fit. manifest: of the engine, None where there is none."""
    _refuse_faults(config, manifest)
    if config.readout == "fit" or manifest is None:
        return partial(FitResolver, _fitter(config))
    fitter = _fitter(config) if config.readout == "best" else None
    grid = FineGrid(manifest.division, manifest.patch)
    return partial(NetworkResolver, config.readout, grid, config.claims, config.fit.amplitude_dn, fitter)


def _refuse_faults(config: Config, manifest: EngineManifest | None) -> None:
    """Raise a UsageError where the engine, or this machine's GPU, cannot do what the configuration asks of it."""
    if config.readout != "fit" and manifest is not None:
        refuse(engine_faults(config, manifest))
    if config.readout in ("fit", "best") and config.fit_on != "cpu":
        refuse(gpu_faults(config))
        missing = ask_cuda_driver().reason
        if missing:
            raise UsageError(f'fit_on: {missing}; expected an NVIDIA GPU, or "cpu"')


def _fitter(config: Config) -> Fitter:
    """The fit, on the GPU where that is asked for, until it fails there."""
    if config.fit_on == "cpu":
        return Fitter(config.fit, config.threads)
    from irst_stream.fit.cuda_search import CudaSearch

    return Fitter(config.fit, config.threads, CudaSearch(priors_of(config.fit), (config.window, *PATCH)))
