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
from tinynas.target.registrations import BOTH, INT4, INT8, INT8_INPUTS, INT8_KERNELS, added, ending, int8_functions, int8_includes, split

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
    assert convolutions(("int8", "int8")).endings == {"CONV_2D": INT8}
    assert convolutions(("int8", "int8"), ("int8", "int8"), biases="int32").endings == {"CONV_2D": INT8}
    for other in (("float32", "float32"), ("int16", "int8")):
        assert convolutions(other).endings == {"CONV_2D": ""}
        assert convolutions(("int8", "int8"), other).endings == {"CONV_2D": ""}
        assert convolutions(("int8", "int4"), other).endings == {"CONV_2D": ""}
    assert convolutions(("int8", "int4")).endings == {"CONV_2D": INT4}
    assert convolutions(("int8", "int4"), ("int8", "int8")).endings == {"CONV_2D": BOTH}
    assert added_file("int8", "int8").endings == {"ADD": INT8, "RESHAPE": ""}  # there is no such kernel of RESHAPE
    assert added_file("int8", "int16").endings == added_file("int16", "int8").endings == {"ADD": "", "RESHAPE": ""}
    pieces = parse_pieces(convolutions(("int8", "int8"), ("int16", "int8")))
    assert pieces == [True, False]


def parse_pieces(model: ModelFile) -> list[bool]:
    return [piece.alone == "int8" for piece in model.estimate("tflm-cmsis-nn").work.pieces]


def test_names_are_the_resolvers() -> None:
    assert {RESOLVER_METHODS[kernel.operator]: kernel for kernel in INT8_KERNELS.values()} == INT8_KERNELS
    ours = {form.builtin for form in OP_FORMS.values()}
    assert ours - set(INT8_INPUTS) == {"MEAN", "HARD_SWISH", "RESIZE_NEAREST_NEIGHBOR"}
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


def test_endings_say_what_all_uses_compute() -> None:
    assert [ending(uses) for uses in (["int8"], ["int4"], ["int4", "int8", "int4"], [""], ["int8", ""], ["int4", ""])] == [
        INT8,
        INT4,
        BOTH,
        "",
        "",
        "",
    ]
    assert [split(f"AddConv2D{end}") for end in ("", INT8, INT4, BOTH)] == [("AddConv2D", end) for end in ("", INT8, INT4, BOTH)]
    assert added("AddConv2DInt4") == "int8_kernels::AddConv2DInt4(resolver, 0)"
    assert added("AddConv2DInt8Int4") == "int8_kernels::AddConv2DInt8Int4(resolver, 0)"


#: As VERSION, with what a kernel that asks for the type of the weights needs: a context that says kTfLiteInt4 (18) or another.
BY_WEIGHTS = """
enum TfLiteStatus {{ kTfLiteOk = 0, kWhole = 8, kHalves = 4, kGeneral = 1 }};
enum TfLiteType {{ kTfLiteInt8 = 9, kTfLiteInt4 = 18 }};
struct TfLiteEvalTensor {{ TfLiteType type; }};
struct Numbers {{ int size; int data[2]; }};
struct TfLiteNode {{ Numbers* inputs; }};
struct TfLiteContext {{ TfLiteEvalTensor* (*GetEvalTensor)(const TfLiteContext*, int); }};
namespace tflite {{
namespace micro {{}}
struct Registration {{ TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*); }};
inline TfLiteStatus General(TfLiteContext*, TfLiteNode*) {{ return kGeneral; }}
inline TfLiteStatus Whole(TfLiteContext*, TfLiteNode*) {{ return kWhole; }}
inline TfLiteStatus Halves(TfLiteContext*, TfLiteNode*) {{ return kHalves; }}
inline Registration Register_CONV_2D() {{ return {{General}}; }}
{declared}
struct Resolver {{
  Registration kept;
  TfLiteStatus AddConv2D(const Registration& registration = Register_CONV_2D()) {{ kept = registration; return kTfLiteOk; }}
}};
}}
namespace model {{
{functions}
}}
static TfLiteEvalTensor tensors[] = {{{{kTfLiteInt8}}, {{kTfLiteInt4}}, {{kTfLiteInt8}}}};
static TfLiteEvalTensor* Get(const TfLiteContext*, int number) {{ return &tensors[number]; }}
static int Ran(tflite::Resolver& resolver, int weights) {{
  Numbers inputs = {{2, {{0, weights}}}};
  TfLiteNode node = {{&inputs}};
  TfLiteContext context = {{Get}};
  return resolver.kept.invoke(&context, &node);
}}
int main() {{
  using namespace model;
  tflite::Resolver resolver;
  if ({added} != kTfLiteOk) return 99;
  return 10 * Ran(resolver, 2) + Ran(resolver, 1);
}}
"""
WHOLE = "inline Registration Register_CONV_2D_INT8() { return {Whole}; }"
HALVES = "inline Registration Register_CONV_2D_INT4() { return {Halves}; }"


@needs_gxx
@pytest.mark.parametrize(
    ("declared", "method", "ran"),
    [
        (WHOLE + HALVES, "AddConv2DInt8Int4", 84),
        (WHOLE, "AddConv2DInt8Int4", 11),
        (HALVES, "AddConv2DInt8Int4", 11),
        ("", "AddConv2DInt8Int4", 11),
        (WHOLE + HALVES, "AddConv2DInt4", 44),
        (WHOLE, "AddConv2DInt4", 11),
    ],
)
def test_the_weights_say_which_kernel_runs(tmp_path: Path, declared: str, method: str, ran: int) -> None:
    (tmp_path / "main.cc").write_text(
        BY_WEIGHTS.format(declared=declared, functions=int8_functions([method], "MODEL"), added=added(method))
    )
    for standard in ("-std=c++11", "-std=c++17"):
        command = ["g++", standard, "-Wall", "-Wextra", "-Werror", "main.cc", "-o", "main"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        assert subprocess.run([tmp_path / "main"], check=False, timeout=10).returncode == ran
