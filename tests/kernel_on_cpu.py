"""Compile fit.cu, the GPU source of the search, with gcc and run it on the CPU."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from irst_stream.fit import cuda_layout

SOURCE = Path(__file__).with_name("kernel_on_cpu.c")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Wdouble-promotion", "-Werror"]


def compile_by_gcc(kernel, out, *flags):
    """Compile the kernel into a program, or with -shared into a library; return its path."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    include = ["-I", Path(cuda_layout.__file__).parent]
    command = [
        "gcc",
        "-std=c11",
        "-O1",
        "-g",
        *WARNINGS,
        *flags,
        *kernel.macros,
        *include,
        SOURCE,
        "-o",
        out,
        "-lm",
        "-lpthread",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "cannot find" in done.stderr and "-fsanitize=thread" in flags:
        pytest.skip("gcc has no thread sanitizer here")
    assert done.returncode == 0, done.stderr
    return out


class ProgramSearch:
    """A search.Search that runs the compiled program."""

    def __init__(self, kernel, folder, *flags):
        self.kernel, self.folder = kernel, folder
        self.program = compile_by_gcc(kernel, folder / "fit_on_cpu", *flags)

    def __call__(self, which, regions, results):
        priors = np.zeros(max(len(regions.psfs.sigma), 1), self.kernel.priors_dtype)
        packed = np.zeros(len(which), self.kernel.region_dtype)
        self.kernel.write_priors(regions.psfs, priors)
        self.kernel.write_regions(which, regions, packed)
        (self.folder / "in").write_bytes(np.int64(len(priors)).tobytes() + priors.tobytes() + packed.tobytes())
        command = [self.program, self.folder / "in", self.folder / "out"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if "FATAL: ThreadSanitizer" in done.stderr:
            pytest.skip(f"the thread sanitizer does not run here: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        self.kernel.read_results(np.fromfile(self.folder / "out", self.kernel.result_dtype), which, results)
