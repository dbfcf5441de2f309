"""Recipes for TensorRT plans and checks of their precision, as far as they can be tested without a GPU."""

import ast
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from irst_stream.errors import DeviceError, IrstError, UsageError
from irst_stream.unmix import tensorrt_build
from irst_stream.unmix.tensorrt_build import (
    call_tensorrt,
    check_precisions,
    convolution_precisions,
    count_precisions,
    parse_version,
    recipe_for,
    tensorrt_logger,
)

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())
VERSIONS = {"8.6": (8, 6, 1), "10.13": (10, 13, 3), "11.4": (11, 4, 0)}
GUARDED = {  # used only after checking that the version has them
    *("IProgressMonitor", "progress_monitor", "precision", "set_output_type"),
    *("ExecutionContextAllocationStrategy", "USER_MANAGED"),
    *("create_execution_context_without_device_memory", "set_device_memory", "device_memory_size", "device_memory_size_v2"),
}
NOT_TENSORRT = {"int64"}  # NumPy's


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_version_has_the_flags_of_its_recipes(name, precision):
    recipe = recipe_for(VERSIONS[name], precision)
    assert set(recipe.network_flags) <= set(NAMES["flags"]["NetworkDefinitionCreationFlag"][name])
    assert set(recipe.builder_flags) <= set(NAMES["flags"]["BuilderFlag"][name])
    assert all(name in NAMES["not_everywhere"][preview] for preview in recipe.preview_features)
    assert set(tensorrt_build.TACTICS) <= set(NAMES["flags"]["TacticSource"][name])


def test_only_names_of_all_supported_versions_are_used_unguarded():
    for file in ("tensorrt.py", "tensorrt_build.py"):
        tree = ast.parse(Path(tensorrt_build.__file__).with_name(file).read_text())
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not (used & NAMES["not_everywhere"].keys()) - GUARDED - NOT_TENSORRT


def test_old_versions_choose_precisions_by_flags_and_pin_layers():
    assert recipe_for((8, 6, 0), "fp32").builder_flags == ()
    half = recipe_for((8, 6, 0), "fp16")
    assert (half.opset, half.half, half.pin_precisions, half.builder_flags) == (
        17,
        False,
        True,
        ("FP16", "OBEY_PRECISION_CONSTRAINTS"),
    )
    assert "INT8" in recipe_for((8, 6, 0), "int8").builder_flags


@pytest.mark.parametrize("version", [(10, 1, 0), (10, 13, 3), (11, 4, 0)])
def test_newer_versions_take_the_types_from_the_graph(version):
    for precision in ("fp32", "fp16", "int8"):
        recipe = recipe_for(version, precision)
        assert (recipe.network_flags, recipe.builder_flags, recipe.pin_precisions) == (("STRONGLY_TYPED",), (), False)
        assert recipe.quantised == (precision == "int8")
        assert recipe.half == (precision != "fp32")
        assert recipe.opset == 19


def test_unsupported_versions_are_refused():
    for version in ((8, 5, 3), (9, 3, 0), (10, 0, 1)):
        with pytest.raises(UsageError, match=rf"TensorRT {'.'.join(map(str, version))}: expected 8.6, or 10.1 or newer"):
            recipe_for(version, "fp16")


def test_two_lanes_may_share_a_batch_size():
    assert recipe_for((8, 6, 1), "fp16").preview_features == ("PROFILE_SHARING_0806",)
    assert recipe_for((10, 1, 0), "fp16").preview_features == ()  # they always share profiles


def test_only_versions_that_can_pin_layers_do():
    for name, version in VERSIONS.items():
        for precision in ("fp32", "fp16", "int8"):
            assert not recipe_for(version, precision).pin_precisions or name in NAMES["not_everywhere"]["set_output_type"]


def test_versions_are_parsed():
    assert parse_version("10.13.3.9") == (10, 13, 3)
    assert parse_version("8.6.1") == (8, 6, 1)
    assert parse_version("10.7.0.post1") == (10, 7, 0)


def layer(kind, name, *formats):
    return {"LayerType": kind, "Name": name, "Inputs": [{"Format/Datatype": text} for text in formats]}


def report(*layers):
    return json.dumps({"Layers": list(layers), "Bindings": ["patches", "maps"]})


def test_layers_are_counted_by_the_types_of_their_inputs():
    old = report(
        layer("CaskConvolution", "Conv_3 + Relu_4", "Channel major FP16 format where channel % 8 == 0"),
        layer("CaskConvolution", "Conv_5", "Row major linear FP32"),
        layer("CaskConvolution", "Conv_7", "Thirty-two wide channel vectorized row major Int8 format"),
        layer("Reformat", "Reformatting CopyNode for Conv_3", "Row major linear FP32"),
        layer("PointWiseV2", "PWN(Mul_9)", "Row major linear FP32"),
    )
    assert count_precisions(old) == {"fp16": 1, "fp32": 1, "int8": 1}
    new = report(
        layer("gemm", "Conv_3_myl0_1", "Half", "Half"),
        layer("conv", "__myl_Fc_0", "Half", "Float"),
        layer("kgen", "__myl_CastMul_1", "Float"),
    )
    assert count_precisions(new) == {"fp16": 2}


def test_newer_versions_report_types_separately_from_formats():
    given = [{"Datatype": "Half", "Format": "Linear"}, {"Datatype": "Float", "Format": "Linear"}]
    assert count_precisions(report({"LayerType": "conv", "Name": "__myl_Fc_0", "Inputs": given})) == {"fp16": 1}


TACTIC = "sm80_xmma_fprop_implicit_gemm_indexed_{0}_{0}_f32_nhwckrsc_nhwc_tilesize128x64x16_stage4_warpsize2x2x1_g1"


@pytest.mark.parametrize(("rounded", "counted"), [("tf32f32", "tf32"), ("f32f32", "fp32")])
@pytest.mark.parametrize("data_type", ["Channel major FP32 format where channel % 4 == 0", "Float"])
def test_single_precision_with_a_tf32_tactic_counts_as_tf32(data_type, rounded, counted):
    one = layer("CaskConvolution", "Conv_3", data_type) | {"TacticName": TACTIC.format(rounded)}
    assert count_precisions(report(one)) == {counted: 1}


def test_a_tf32_tactic_does_not_change_half_precision():
    one = layer("CaskConvolution", "Conv_3", "Half", "Float") | {"TacticName": TACTIC.format("tf32f32")}
    assert count_precisions(report(one)) == {"fp16": 1}


def test_node_names_separated_by_control_characters_are_read():
    nodes = "[ONNX Layer: Conv_3]\x1e[ONNX Layer: Relu_4]"
    text = report(layer("gemm", "__myl_Fc_0", "Half") | {"Metadata": nodes}, layer("kgen", "__myl_Add_1", "Float"))
    assert "\\u001e" in text
    assert count_precisions(text.replace("\\u001e", "\x1e")) == {"fp16": 1}


def test_layers_named_after_a_convolution_are_not_always_one():
    moved = [
        layer("kgen", "__myl_Cast_0", "Float") | {"Metadata": "[ONNX Layer: Conv_34]"},
        layer("Reformat", "Reformatting CopyNode for Conv_3", "Row major linear FP32"),
        layer("cast", "Conv_34.single", "Float") | {"Metadata": "[ONNX Layer: Conv_34.single]"},
        layer("convert", "Convert_1", "Float"),
        layer("Scale", "fuse.conv.weight.steps + QuantizeLinear_3", "Float"),
        layer("PointWiseV2", "PWN(fuse.conv.bias, Mul_3)", "Float"),
        layer("Myelin", "{ForeignNode[Conv_3...Mul_9]}", "Float"),
    ]
    assert count_precisions(report(layer("CaskConvolution", "Conv_34", "Half"), *moved)) == {"fp16": 1}


OPEN = "N/A due to dynamic shapes"


@pytest.mark.parametrize(("kind", "counted"), [("Half", "fp16"), ("Float", "fp32"), ("Int8", "int8")])
def test_without_types_of_inputs_the_weights_type_counts(kind, counted):
    one = layer("CaskConvolution", "Conv_3 [profile 1]", OPEN) | {"Weights": {"Type": kind, "Count": 9216}}
    assert count_precisions(report(one)) == {counted: 1}


class Inspected:
    """Stands in for an engine, its context and its inspector; it reports types only if all input shapes are set."""

    num_io_tensors = 3

    def __init__(self, *, memory=True):
        self.memory, self.execution_context, self.shapes = memory, None, {}

    def create_engine_inspector(self):
        return self

    def create_execution_context(self):
        return self if self.memory else None

    def get_tensor_name(self, k):
        return ("store", "rows", "map")[k]

    def get_tensor_mode(self, name):
        return "out" if name == "map" else "in"

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        return [(1, 33, 33), (4096, 33, 33), (65536, 33, 33)] if name == "store" else [(8, 5)] * 3

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape

    def get_engine_information(self, _):
        known = self.execution_context is self and self.shapes == {"store": (4096, 33, 33), "rows": (8, 5)}
        return report(layer("CaskConvolution", "Conv_3", "Half" if known else OPEN))


def stand_in(**more):
    """Stands in for the tensorrt module, as far as it is used without a GPU."""
    trt = ModuleType("tensorrt")
    trt.ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1})
    vars(trt).update({"__version__": "10.13.3", **more})
    return trt


def inspect(engine):
    trt = stand_in(
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
    )
    return convolution_precisions(trt, b"plan")


def test_a_plan_is_inspected_with_its_input_shapes_set():
    assert inspect(Inspected()) == {"fp16": 1}
    with pytest.raises(
        DeviceError, match=r"^TensorRT 10.13.3 creates no context for the plan that it has built: it does not say why$"
    ):
        inspect(Inspected(memory=False))


def test_every_refusal_of_tensorrt_is_one_line():
    trt = stand_in()

    def complain(answer):
        tensorrt_logger(trt).log(1, "out of memory\nand more")
        return answer

    def throw(error):
        raise error

    assert call_tensorrt(trt, "does not run", complain, 0) == 0  # 0 can be a valid result, like a profile's number
    for answer in (None, False):
        with pytest.raises(DeviceError, match=r"^TensorRT 10.13.3 does not run: out of memory$"):
            call_tensorrt(trt, "does not run", complain, answer)
        with pytest.raises(DeviceError, match=r"^TensorRT 10.13.3 does not run: it does not say why$"):
            call_tensorrt(trt, "does not run", lambda: answer)  # noqa: B023 - called at once
    for error in (RuntimeError("no such profile\nbacktrace"), TypeError("no such profile")):
        with pytest.raises(DeviceError, match=r"^TensorRT 10.13.3 does not run: no such profile$"):
            call_tensorrt(trt, "does not run", throw, error)


class Layer:
    """Stands in for a layer of TensorRT's network, with one output of the same name."""

    num_outputs = 1

    def __init__(self, name, kind, *inputs, dtype="float32"):
        self.name, self.type, self.inputs, self.dtype = name, kind, inputs, dtype
        self.precision, self.output_type = None, None

    def get_input(self, k):
        return SimpleNamespace(name=self.inputs[k])

    def get_output(self, _):
        return SimpleNamespace(name=self.name, dtype=self.dtype)

    def set_output_type(self, _, kind):
        self.output_type = kind


def test_layers_are_pinned_to_their_precisions():
    layers = [
        Layer("Conv_0", "convolution", "patches"),
        Layer("Mul_1", "elementwise", "Conv_0"),
        Layer("step", "constant"),
        Layer("Shape_2", "shape", "Mul_1", dtype="int32"),
        Layer("DequantizeLinear_3", "dequantize", "Mul_1"),
        Layer("Conv_4", "convolution", "DequantizeLinear_3"),
    ]
    trt = SimpleNamespace(
        LayerType=SimpleNamespace(CONSTANT="constant", CONVOLUTION="convolution", DEQUANTIZE="dequantize"),
        float16="float16",
        float32="float32",
    )
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    tensorrt_build._pin_precisions(trt, network, frozenset({"Mul_1", "step", "Shape_2"}))
    assert [one.precision for one in layers] == ["float16", "float32", None, None, None, None]
    assert [one.output_type for one in layers] == [None, "float32", None, None, None, None]


def test_without_recognisable_convolutions_all_layers_are_counted():
    assert count_precisions(report(layer("kgen", "a", "Half"), layer("kgen", "b", "Float"))) == {"fp16": 1, "fp32": 1}


def test_convolutions_in_another_precision_are_an_error():
    check_precisions({"unfold": {"fp16": 36}, "fuse": {"fp16": 33, "fp32": 2}}, "fp16")
    check_precisions({"unfold": {"fp32": 36}}, "fp32")
    check_precisions({"unfold": {"int8": 27, "fp16": 9}}, "int8")
    with pytest.raises(IrstError, match=r"fuse: expected convolutions in fp16; TensorRT runs 30 in fp16, 5 in fp32"):
        check_precisions({"unfold": {"fp16": 36}, "fuse": {"fp16": 30, "fp32": 5}}, "fp16")
    with pytest.raises(IrstError, match=r"unfold: expected convolutions in int8; TensorRT runs 36 in fp16"):
        check_precisions({"unfold": {"fp16": 36}}, "int8")
    with pytest.raises(IrstError, match=r"unfold: expected convolutions in fp16; TensorRT runs 36 in other"):
        check_precisions({"unfold": {"other": 36}}, "fp16")
    with pytest.raises(IrstError, match="runs none"):
        check_precisions({"unfold": {}}, "fp16")


ROUNDED = {
    "8.6 in half": layer("CaskConvolution", "Conv_3 + Relu_4", "Channel major FP16 format where channel % 8 == 0"),
    "8.6 in eight bits": layer("CaskConvolution", "Conv_3", "Thirty-two wide channel vectorized row major Int8 format"),
    "8.6 in half, another batch": layer("CaskConvolution", "Conv_3 [profile 1]", OPEN) | {"Weights": {"Type": "Half"}},
    "10 in half": layer("conv", "__myl_Fc_0", "Half", "Float"),
    "10 in TF32": layer("CaskConvolution", "Conv_3", "Float") | {"TacticName": TACTIC.format("tf32f32")},
    "11 in half": {"LayerType": "conv", "Name": "Conv_3", "Inputs": [{"Datatype": "Half", "Format": "Linear"}]},
}


@pytest.mark.parametrize("name", ROUNDED)
def test_one_layer_of_lower_precision_fails_a_single_precision_plan(name):
    singles = [layer("CaskConvolution", f"Conv_{k}", "Float") for k in range(35)]
    check_precisions({"fuse": count_precisions(report(*singles))}, "fp32")
    with pytest.raises(IrstError, match=r"fuse: expected convolutions in fp32; TensorRT runs .*35 in fp32"):
        check_precisions({"fuse": count_precisions(report(*singles, ROUNDED[name]))}, "fp32")


def test_a_single_precision_plan_needs_known_types():
    check_precisions({"unfold": {"fp32": 33, "other": 2}}, "fp32")
    for counts in ({}, {"other": 36}, {"fp32": 30, "other": 6}):
        with pytest.raises(IrstError, match="unfold: expected convolutions in fp32; TensorRT runs "):
            check_precisions({"unfold": counts}, "fp32")
