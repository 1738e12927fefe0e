"""Kernels for int8 alone: which operators take them, and the C++ that finds them in whatever version a compiler meets."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated")

from one_op import options
from tflite_files import Graph, conv, file

from tinynas.cost.flash import OP_FORMS
from tinynas.cost.tflite import ModelFile, parse_model
from tinynas.export.firmware import RESOLVER_METHODS
from tinynas.target.registrations import INT8, INT8_INPUTS, INT8_KERNELS, added, int8_functions, int8_includes

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed (apt-get install g++)")


def convolutions(*types: tuple[str, str], biases: str | None = None) -> ModelFile:
    """A file of 1x1 convolutions, each of an input of its own: (element type of input and output, of the weights)."""
    graph = Graph()
    for dtype, weights in types:
        source = graph.tensor((1, 4, 4, 8), dtype)
        graph.inputs.append(source)
        bias = -1 if biases is None else graph.tensor((8,), biases, data=0)
        count = 8 * 8 // 2 if weights == "int4" else 64
        data = bytes(count) if weights in {"int8", "int4"} else 0
        graph.outputs.append(conv(graph, source, (1, 4, 4, 8), graph.tensor((8, 1, 1, 8), weights, data=data), bias, dtype))
    return parse_model(file(graph))


def added_file(first: str, second: str) -> ModelFile:
    graph = Graph()
    graph.inputs = [graph.tensor((1, 4), first), graph.tensor((1, 4), second)]
    graph.outputs = [graph.tensor((1, 4), "int8")]
    graph.op("ADD", graph.inputs, graph.outputs, options("AddOptions"))
    graph.outputs.append(graph.tensor((1, 4), "int8"))
    graph.op("RESHAPE", [graph.outputs[0]], [graph.outputs[1]], options("ReshapeOptions"))
    return parse_model(file(graph))


def test_an_operator_is_int8_where_every_use_is() -> None:
    assert convolutions(("int8", "int8")).int8_kinds == {"CONV_2D"}
    assert convolutions(("int8", "int8"), ("int8", "int8"), biases="int32").int8_kinds == {"CONV_2D"}
    for other in (("float32", "float32"), ("int16", "int8"), ("int8", "int4")):
        assert convolutions(other).int8_kinds == frozenset()
        assert convolutions(("int8", "int8"), other).int8_kinds == frozenset()
    assert added_file("int8", "int8").int8_kinds == {"ADD"}  # there is no such kernel of RESHAPE
    assert added_file("int8", "int16").int8_kinds == added_file("int16", "int8").int8_kinds == frozenset()
    pieces = parse_pieces(convolutions(("int8", "int8"), ("int16", "int8")))
    assert pieces == [True, False]


def parse_pieces(model: ModelFile) -> list[bool]:
    return [piece.int8 for piece in model.estimate("tflm-cmsis-nn").work.pieces]


def test_names_are_the_resolvers() -> None:
    assert {RESOLVER_METHODS[kernel.operator]: kernel for kernel in INT8_KERNELS.values()} == INT8_KERNELS
    ours = {form.builtin for form in OP_FORMS.values()}
    assert ours - set(INT8_INPUTS) == {"MEAN"}
    assert added("AddMean") == "resolver.AddMean()" and added("AddAddInt8") == "int8_kernels::AddAdd(resolver, 0)"
    assert int8_functions(["AddMean", "AddConv2D"], "G") == int8_includes(["AddMean", "AddMul", "AddConv2DInt8"]) == ""
    assert "micro/kernels/mul.h" in int8_includes(["AddMulInt8"])


#: A version of TFLM with or without a registration for int8 alone, and with a resolver that takes registrations or does not.
VERSION = """
namespace tflite {{
namespace micro {{}}
struct Registration {{ int number; }};
inline Registration Register_CONV_2D() {{ return {{1}}; }}
{declared}
struct Resolver {{ int AddConv2D({parameter}) {{ return registration.number; }} {field} }};
}}
namespace model {{
{functions}
int Added() {{ tflite::Resolver resolver; return {added}; }}
}}
int main() {{ return model::Added(); }}
"""
DECLARED = "inline Registration Register_CONV_2D_INT8() { return {8}; }"
TAKES = ("const Registration& registration = Register_CONV_2D()", "")
TAKES_NONE = ("", "Registration registration = Register_CONV_2D();")


@needs_gxx
@pytest.mark.parametrize(
    ("declared", "resolver", "defines", "number"),
    [
        (DECLARED, TAKES, (), 8),
        ("", TAKES, (), 1),
        (DECLARED, TAKES_NONE, (), 1),
        ("", TAKES_NONE, (), 1),
        (DECLARED, TAKES, ("-DMODEL_GENERAL_KERNELS",), 1),
        (DECLARED, TAKES, ("-DXTENSA",), 1),
        (DECLARED.replace("inline Registration", "namespace micro { inline Registration") + " }", TAKES, (), 8),
    ],
    ids=["both", "not declared", "not taken", "neither", "not wanted", "Xtensa", "in tflite::micro"],
)
def test_the_compiler_takes_the_kernel_where_there_is_one(
    tmp_path: Path, declared: str, resolver: tuple[str, str], defines: tuple[str, ...], number: int
) -> None:
    method = f"AddConv2D{INT8}"
    words = {"declared": declared, "parameter": resolver[0], "field": resolver[1], "added": added(method)}
    text = VERSION.format(**words, functions=int8_functions([method], "MODEL"))
    (tmp_path / "main.cc").write_text(text)
    for standard in ("-std=c++11", "-std=c++17"):
        command = ["g++", standard, "-Wall", "-Wextra", "-Werror", *defines, "main.cc", "-o", "main"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        assert subprocess.run([tmp_path / "main"], check=False, timeout=10).returncode == number
