"""The TensorRT backend without TensorRT or a GPU: a stand-in with its interface runs the same graphs on the host."""

import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from host_device import Buffer, Device, Stream, on_the_host
from random_networks import random_engine

from irst_stream.commands.trials import noise_windows, run_network
from irst_stream.errors import DeviceError
from irst_stream.unmix.onnx import OnnxUnmixer, cpu_session
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.tensorrt_build import graphs_to_build, recipe_for

BATCHES = (1, 4)
TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}


class Context:
    """An execution context: it runs only with a profile, shapes that fit it, and an address for each tensor."""

    def __init__(self, session):
        self.binding, self.session, self.profile, self.shapes = session.io_binding(), session, None, {}
        self.left = {node.name for node in (*session.get_inputs(), *session.get_outputs())}

    def set_device_memory(self, address, size):
        assert address
        assert size == 64

    def set_optimization_profile_async(self, profile, _):
        self.profile = profile
        return profile < len(BATCHES)

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return name == "store" or shape[0] == BATCHES[self.profile]

    def set_tensor_address(self, name, address):
        inputs = {node.name: node for node in self.session.get_inputs()}
        if name in inputs:
            kind = TYPES[inputs[name].type]
            self.binding.bind_input(name, "cpu", 0, kind, list(self.shapes[name]), address)
        else:
            node = next(node for node in self.session.get_outputs() if node.name == name)
            shape = [BATCHES[self.profile], *node.shape[1:]]
            self.binding.bind_output(name, "cpu", 0, np.float32, shape, address)
        self.left.discard(name)
        return True

    def execute_async_v3(self, _):
        assert not self.left
        self.session.run_with_iobinding(self.binding)
        return True


class Engine:
    """A plan that was loaded, here a graph."""

    device_memory_size_v2 = 64

    def __init__(self, graph):
        self.session = cpu_session(graph, 1)
        self.nodes = {node.name: node for node in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.nodes)

    def get_tensor_name(self, k):
        return list(self.nodes)[k]

    def get_tensor_mode(self, name):
        return "input" if name in {node.name for node in self.session.get_inputs()} else "output"

    def get_tensor_dtype(self, name):
        return self.nodes[name].type

    def get_tensor_shape(self, name):
        return (-1, *self.nodes[name].shape[1:])

    def create_execution_context(self, strategy):
        assert strategy == "user managed"
        return Context(self.session)


@pytest.fixture
def tensorrt(monkeypatch):
    """The module of the backend, imported with the stand-in, on the host's memory."""
    stand_in = ModuleType("tensorrt")
    stand_in.__version__ = "10.13.3"
    stand_in.TensorIOMode = SimpleNamespace(INPUT="input")
    stand_in.int32 = "tensor(int32)"
    stand_in.ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1})
    stand_in.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    stand_in.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine(plan) if plan else None)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setitem(sys.modules, "irst_stream.unmix.tensorrt", None)
    del sys.modules["irst_stream.unmix.tensorrt"]
    module = import_module("irst_stream.unmix.tensorrt")
    on_the_host(monkeypatch)
    for name, host in (("Device", Device), ("Stream", Stream), ("Memory", Buffer)):
        monkeypatch.setattr(module, name, host)
    return module


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True, side=7)


def plans(engine):
    graphs = {build.part: build.graph for build in graphs_to_build(engine, recipe_for((10, 13), "fp32"), BATCHES)}
    return SimpleNamespace(manifest=SimpleNamespace(batches=BATCHES), **graphs)


def test_plans_in_two_lanes_a_batch_size_give_the_reference(tensorrt, engine):
    unmixer, oracle = tensorrt.TensorRtUnmixer(plans(engine), engine.manifest), OnnxUnmixer(engine, 1)
    for count in (1, 11):
        windows = noise_windows(engine.manifest, count)
        differences = largest_differences(run_network(unmixer, windows, count), run_network(oracle, windows))
        assert max(differences.values()) < 1e-4
    assert {part: list(costs) for part, costs in unmixer.costs.items()} == {"unfold": [1, 4], "fuse": [1, 4]}


def test_a_plan_that_is_not_loaded_is_a_device_error(tensorrt, engine):
    damaged = plans(engine)
    damaged.fuse = b""
    with pytest.raises(DeviceError, match=r"TensorRT 10\.13\.3 does not load the plan: it does not say why"):
        tensorrt.TensorRtUnmixer(damaged, engine.manifest)


def test_a_refused_shape_is_a_device_error(tensorrt, engine, monkeypatch):
    monkeypatch.setattr(Context, "set_input_shape", lambda *_: False)
    with pytest.raises(DeviceError, match=r"does not take patches of \(1, 7, 7\)"):
        tensorrt.TensorRtUnmixer(plans(engine), engine.manifest)
