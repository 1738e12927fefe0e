"""Kernels for int8 alone: those that TFLM can register in place of its general ones, and the C++ that does it where they exist.

A general kernel of CMSIS-NN brings its code for int4, int16 and float along. Which kernels there are differs between versions, so the
compiler looks: a function that is declared is preferred to the template of the same name here, which no resolver takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


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
#: What a method's name ends in where it registers the kernel for int8 alone.
INT8 = "Int8"


def added(method: str) -> str:
    """The C++ expression that adds the operator of ``method``, such as ``AddMean``, or ``AddConv2DInt8`` for int8 alone."""
    plain = method.removesuffix(INT8)
    return f"resolver.{plain}()" if plain == method else f"int8_kernels::{plain}(resolver, 0)"


def int8_functions(methods: Iterable[str], guard: str) -> str:
    """C++ of the namespace ``int8_kernels`` for those of ``methods`` that are for int8 alone; empty where none is.

    It stands in another namespace, behind the resolver's header. ``guard`` begins the macro that asks for the general kernels.
    """
    chosen = [(method.removesuffix(INT8), INT8_KERNELS[method.removesuffix(INT8)]) for method in methods if method.endswith(INT8)]
    if not chosen:
        return ""
    names = [f"Register_{kernel.operator}_INT8" for _, kernel in chosen]
    missing = "\n".join(f"template <typename = void>\nMissing {name}();" for name in names)
    functions = "".join(_FUNCTIONS.format(method=method, name=name) for (method, _), name in zip(chosen, names, strict=True))
    return _NAMESPACE.format(missing=missing, functions=functions, guard=guard)


def int8_includes(methods: Iterable[str]) -> str:
    """The headers that :func:`int8_functions` needs beside the resolver's."""
    headers = sorted({INT8_KERNELS[method.removesuffix(INT8)].header for method in methods if method.endswith(INT8)} - {""})
    return "".join(_INCLUDE.format(header=f"tensorflow/lite/micro/kernels/{header}") for header in headers)


_INCLUDE = """#ifdef __has_include
#if __has_include("{header}")
#include "{header}"
#endif
#endif
"""

_NAMESPACE = """
// Kernels for int8 alone: the general ones bring code for other types along. They are declared where the build defines CMSIS_NN,
// as its library's did, and on Arduino; elsewhere, and where a version has none, the general ones are taken. For a build that
// defines CMSIS_NN and links other kernels: -D{guard}_GENERAL_KERNELS
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

_FUNCTIONS = """template <typename Resolver>
auto {method}(Resolver& resolver, int) -> decltype(resolver.{method}(int8_kernels::{name}())) {{
  return resolver.{method}(int8_kernels::{name}());
}}
template <typename Resolver>
auto {method}(Resolver& resolver, long) -> decltype(resolver.{method}()) {{
  return resolver.{method}();
}}
"""
