"""The part `fit` of bench_gpu.py: the fit's kernel on a GPU, compared with the CPU's fit, and its times."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_timing import REGIONS, WARM_UP, Results, latency, told, window_of

from irst_stream.commands.trials import calibration_windows
from irst_stream.errors import DeviceError
from irst_stream.fit.fitter import Fitter, priors_of
from irst_stream.fit.settings import FitSettings
from irst_stream.resolve.readouts import FitResolver
from irst_stream.unmix.engine import Engine

MANY = (64, 512, 4096)  # regions at once, of which the rate is taken
MOST_APART_PX, LEAST_SAME = 0.01, 0.95  # between a target by the GPU and by the CPU; share of regions with as many targets


def fit_on(device: str, refit_every: int = 8) -> Fitter:
    """The fit on the CPU's threads, or on the GPU."""
    settings = FitSettings(refit_every=refit_every, sigma_doubt=0.0)
    if device == "cpu":
        return Fitter(settings, threads=0)
    from irst_stream.fit.cuda_search import CudaSearch

    return Fitter(settings, 0, CudaSearch(priors_of(settings)))


def measure(results: Results, engine: Engine, seconds: float, dry: bool) -> None:
    """Parity, rates and latencies; dry: on the CPU, so that the rates are the CPU's, and named so."""
    device, warm_up = ("cpu", 1) if dry else ("gpu", WARM_UP)
    title = f"fit on the {device.upper()}"
    results.add(f"{title}, beside the CPU's", lambda: parity(engine, device))
    for count in MANY[:1] if dry else MANY:
        results.add(f"{title}, {count} regions at once", lambda count=count: rate(engine, device, count, seconds))
    for name, refit in (("going on", 8), ("begun anew in each frame", 1)):
        what = f"{title}, {REGIONS} regions {name}"
        found = results.add(what, lambda refit=refit: latency(fitting(engine, fit_on(device, refit)), seconds, warm_up))
        if isinstance(found, dict):
            print(f"{what}: {told(found)}")


def parity(engine: Engine, device: str) -> dict[str, float]:
    """How the fit of one window's regions differs from the CPU's; a DeviceError if it finds something else."""
    window = window_of(0, calibration_windows(engine.manifest, REGIONS))
    one, other = (FitResolver(fit_on(where, 1)) for where in (device, "cpu"))
    got, expected = one(window, []), other(window, [])
    check_alarm(one)
    pairs = [(got.xy[got.region == k], expected.xy[expected.region == k]) for k in range(REGIONS)]
    apart = [float(np.abs(a - b).max(initial=0.0)) for a, b in pairs if len(a) == len(b)]
    same, late = len(apart) / REGIONS, float(np.percentile(apart or [np.nan], 95))
    print(
        f"the fit beside the CPU's: as many targets in {100 * same:.0f} % of regions, {late:.1e} px apart in 95 % of those"
    )
    if not (same >= LEAST_SAME and late <= MOST_APART_PX):
        raise DeviceError(f"as many targets as the CPU in {100 * same:.0f} % of regions, {late:.2g} px apart")
    return {"regions": REGIONS, "same_number": same, "apart_px_p95": late}


def rate(engine: Engine, device: str, regions: int, seconds: float) -> dict[str, float]:
    """Regions a second, begun anew in each frame."""
    windows, resolve, count = calibration_windows(engine.manifest, regions), FitResolver(fit_on(device, 1)), 0
    resolve(window_of(0, windows), [])
    began = time.perf_counter()
    for number in itertools.count(1):
        resolve(window_of(number, windows), [])
        count += regions
        taken = time.perf_counter() - began
        if taken >= seconds:
            break
    check_alarm(resolve)
    print(f"fit on the {device.upper()}, {regions} regions at once: {count / taken:.0f} regions/s")
    return {"regions_s": count / taken}


def check_alarm(resolve: FitResolver) -> None:
    """A GPU that failed was replaced by the CPU, whose figures must not stand under its name."""
    if resolve.alarm:
        raise DeviceError(resolve.alarm)


def fitting(engine: Engine, fitter: Fitter) -> Callable[[], Any]:
    """What the fit does for each frame of a stream with so many regions."""
    numbers, windows, resolve = itertools.count(), calibration_windows(engine.manifest, REGIONS), FitResolver(fitter)
    return lambda: resolve(window_of(next(numbers), windows), [])
