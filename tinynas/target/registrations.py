"""Kernels for int8 alone: those that TFLM can register in place of its general ones, and the C++ that does it where they exist.

A general kernel of CMSIS-NN brings its code for int4, int16 and float along. Those with weights of 4 bits have a kernel for these alone
too; where a model has both, a kernel is registered that calls the one or the other by the type of the weights. Which kernels there are
differs between versions, so the compiler looks: a function that is declared is preferred to the template of the same name here, which
no resolver takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Alone = Literal["int8", "int4", ""]
"""What an operator computes that a kernel may be for alone: int8, int8 with weights of 4 bits, or neither."""


class Int8Kernel(NamedTuple):
    """A kernel for int8 alone that has the same results as the general one."""

    operator: str
    """TFLite's name; its registration is ``Register_<operator>_INT8``."""
    inputs: int
    """How many of the first inputs are int8, as the output is; behind them come biases and paddings."""
    header: str = ""
    """Where it is declared, where the resolver of some version does not include that."""


#: Resolver's method -> its kernel for int8 alone.
INT8_KERNELS: dict[str, Int8Kernel] = {
    "AddAdd": Int8Kernel("ADD", 2),
    "AddAveragePool2D": Int8Kernel("AVERAGE_POOL_2D", 1),
    "AddConv2D": Int8Kernel("CONV_2D", 2),
    "AddDepthwiseConv2D": Int8Kernel("DEPTHWISE_CONV_2D", 2),
    "AddFullyConnected": Int8Kernel("FULLY_CONNECTED", 2),
    "AddMaxPool2D": Int8Kernel("MAX_POOL_2D", 1),
    "AddMul": Int8Kernel("MUL", 2, "mul.h"),
    "AddPad": Int8Kernel("PAD", 1, "pad.h"),
    "AddSoftmax": Int8Kernel("SOFTMAX", 1),
}
#: TFLite's name -> how many of its first inputs are int8 for such a kernel.
INT8_INPUTS: dict[str, int] = {kernel.operator: kernel.inputs for kernel in INT8_KERNELS.values()}
#: Those of them that have a kernel for weights of 4 bits alone: ``Register_<operator>_INT4``.
INT4_KERNELS = ("AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected")
INT4_OPERATORS: frozenset[str] = frozenset(INT8_KERNELS[method].operator for method in INT4_KERNELS)
#: What a method's name ends in where it registers the kernel for int8 alone, for weights of 4 bits alone, and both of them.
INT8, INT4, BOTH = "Int8", "Int4", "Int8Int4"


def ending(uses: Iterable[Alone]) -> str:
    """What a resolver's method ends in for an operator whose uses are these."""
    found = frozenset(uses)
    endings: dict[frozenset[Alone], str] = {frozenset({"int8"}): INT8, frozenset({"int4"}): INT4, frozenset({"int8", "int4"}): BOTH}
    return endings.get(found, "")


def split(method: str) -> tuple[str, str]:
    """(the resolver's method, its ending) of ``method``."""
    end = next((end for end in (BOTH, INT4, INT8) if method.endswith(end)), "")
    return method.removesuffix(end), end


def added(method: str) -> str:
    """The C++ expression that adds the operator of ``method``, such as ``AddMean``, or ``AddConv2DInt8`` for int8 alone."""
    plain, end = split(method)
    return f"int8_kernels::{_function(plain, end)}(resolver, 0)" if end else f"resolver.{plain}()"


def _function(plain: str, end: str) -> str:
    return plain if end == INT8 else plain + end


def int8_functions(methods: Iterable[str], guard: str) -> str:
    """C++ of the namespace ``int8_kernels`` for those of ``methods`` that are for int8, or weights of 4 bits, alone; empty where none is.

    It stands in another namespace, behind the resolver's header. ``guard`` begins the macro that asks for the general kernels.
    """
    chosen = [(plain, end) for plain, end in map(split, methods) if end]
    if not chosen:
        return ""
    names: list[str] = []
    functions = ""
    for plain, end in chosen:
        operator = INT8_KERNELS[plain].operator
        words = {"method": plain, "function": _function(plain, end)}
        words |= {"name": f"Register_{operator}_INT8", "other": f"Register_{operator}_INT4"}
        names += [words["name"]] if end != INT4 else []
        names += [words["other"]] if end != INT8 else []
        if end == INT4:
            words["name"] = words["other"]
        functions += (_BOTH if end == BOTH else _FUNCTIONS).format(**words)
    missing = "\n".join(f"template <typename = void>\nMissing {name}();" for name in dict.fromkeys(names))
    by_weights = _BY_WEIGHTS if any(end == BOTH for _, end in chosen) else ""
    return _NAMESPACE.format(missing=missing, functions=by_weights + functions, guard=guard)


def int8_includes(methods: Iterable[str]) -> str:
    """The headers that :func:`int8_functions` needs beside the resolver's."""
    headers = sorted({INT8_KERNELS[plain].header for plain, end in map(split, methods) if end} - {""})
    return "".join(_INCLUDE.format(header=f"tensorflow/lite/micro/kernels/{header}") for header in headers)


_INCLUDE = """#ifdef __has_include
#if __has_include("{header}")
#include "{header}"
#endif
#endif
"""

_NAMESPACE = """
// Kernels for int8, or for weights of four bits, alone: the general ones bring code for other types along. They are declared where the
// build defines CMSIS_NN, as its library's did, and on Arduino; elsewhere, and where a version has none, the general ones are taken. For
// a build that defines CMSIS_NN and links other kernels: -D{guard}_GENERAL_KERNELS
namespace int8_kernels {{

struct Missing {{}};  // no resolver takes it
namespace missing {{
{missing}
}}  // namespace missing
using namespace missing;  // NOLINT
#if !defined({guard}_GENERAL_KERNELS) && !defined(XTENSA)
using namespace tflite;         // NOLINT
using namespace tflite::micro;  // NOLINT
#endif

{functions}
}}  // namespace int8_kernels
"""

# A registration is what an Init and a Prepare function, which both kernels share, and an Invoke function are.
_BY_WEIGHTS = """// Two kernels of one operator, for weights of a byte and of four bits: the weights say which.
template <typename Operator>
struct ByWeights {
  using Invoke = TfLiteStatus (*)(TfLiteContext*, TfLiteNode*);
  static Invoke& Bytes() {
    static Invoke invoke = nullptr;
    return invoke;
  }
  static Invoke& Halves() {
    static Invoke invoke = nullptr;
    return invoke;
  }
  static TfLiteStatus Run(TfLiteContext* context, TfLiteNode* node) {
    const bool halves = context->GetEvalTensor(context, node->inputs->data[1])->type == kTfLiteInt4;
    return (halves ? Halves() : Bytes())(context, node);
  }
  template <typename Registration>
  static Registration Of(Registration bytes, const Registration& halves) {
    Bytes() = bytes.invoke;
    Halves() = halves.invoke;
    bytes.invoke = Run;
    return bytes;
  }
};

"""

_BOTH = """template <typename Resolver>
struct {method}Weights {{}};
template <typename Resolver>
auto {function}(Resolver& resolver, int)
    -> decltype(resolver.{method}(ByWeights<{method}Weights<Resolver>>::Of(int8_kernels::{name}(), int8_kernels::{other}()))) {{
  return resolver.{method}(ByWeights<{method}Weights<Resolver>>::Of(int8_kernels::{name}(), int8_kernels::{other}()));
}}
template <typename Resolver>
auto {function}(Resolver& resolver, long) -> decltype(resolver.{method}()) {{
  return resolver.{method}();
}}
"""

_FUNCTIONS = """template <typename Resolver>
auto {function}(Resolver& resolver, int) -> decltype(resolver.{method}(int8_kernels::{name}())) {{
  return resolver.{method}(int8_kernels::{name}());
}}
template <typename Resolver>
auto {function}(Resolver& resolver, long) -> decltype(resolver.{method}()) {{
  return resolver.{method}();
}}
"""
