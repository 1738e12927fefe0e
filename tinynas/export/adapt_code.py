"""adapt.h of a firmware folder: what learns on the board, as C for both runtimes, from the plan that its memory was promised by.

The code proper is one piece of C and C++ at once (``templates/adapt``), the calls around it are of the folder's language
(``templates/firmware_adapt``, ``templates/firmware_c_adapt``). What it computes, in which order, is :mod:`tinynas.learnings.board`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.apart import REAL, Apart
from tinynas.cost.backward import UpdateCost
from tinynas.cost.updates import Update
from tinynas.errors import InternalError, UserError
from tinynas.export.folder import c_float, fill, read_templates
from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Op, Weighted, outputs_of
from tinynas.quantize.grid import QuantizedGraph

#: The first word of a blob: the letters TNAd.
MAGIC = int.from_bytes(b"TNAd", "little")
_ACTS = {"none": "kLinear", "relu": "kRelu", "relu6": "kRelu6"}
#: Kinds of the tail's operators -> their part of the code, as it is called.
_PARTS = {"conv": "Conv", "fc": "Conv", "dw": "Depthwise", "mean": "Mean", "add": "Add"}
_FILES = {"Conv": "conv.c", "Depthwise": "depthwise.c", "Mean": "mean.c", "Add": "add.c"}
_NOWHERE = -1


@dataclass(frozen=True)
class TestStep:
    """A step of the self-test: an image of its two, its class, the rate, and the sum of all parameters behind it."""

    image: int
    label: int
    rate: np.float32
    sum: int


@dataclass(frozen=True)
class BoardLearning:
    """All that the code is made of."""

    qgraph: QuantizedGraph = field(repr=False)
    """The network with an output for each class, one output."""
    update: Update = field(repr=False)
    cost: UpdateCost = field(repr=False)
    """Counted with the arithmetic ``board``."""
    batch: int
    momentum: float
    rate: float
    schedule: str
    replays: npt.NDArray[np.int8] = field(repr=False)
    """(n, kept bytes): old inputs that are learned again."""
    replay_labels: npt.NDArray[np.int64] = field(repr=False)
    test: tuple[TestStep, ...] = field(default=(), repr=False)

    @property
    def graph(self) -> Graph:
        """The network's."""
        return self.qgraph.graph

    @property
    def apart(self) -> Apart:
        """Where everything lies."""
        if self.cost.apart is None:
            raise InternalError("learning on the board was not counted apart")
        return self.cost.apart

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """The tail's operators."""
        return tuple(self.apart.graph.ops[index] for index in self.apart.ops)

    @cached_property
    def tensors(self) -> tuple[int, ...]:
        """Tensors that the tail reads and writes: the kept ones first."""
        return (*self.apart.kept, *(op.output for op in self.ops))

    def weighted(self, op: Op) -> bool:
        """Whether the weights of ``op`` are learned."""
        return isinstance(op, WEIGHTED) and self.update.of(op).weighted

    def biased(self, op: Op) -> bool:
        """Whether its biases are."""
        return isinstance(op, WEIGHTED) and bool(self.update.of(op).biases)

    def steps(self, op: Weighted) -> npt.NDArray[np.float32]:
        """The step of the integer weights of each output channel."""
        return np.broadcast_to(self.qgraph.weight_scales[op.name], (outputs_of(op),)).astype(np.float32)

    def first_biases(self, op: Weighted) -> npt.NDArray[np.float32]:
        """What the integer biases stand for."""
        return self.qgraph.biases[op.name].astype(np.float32) * self.qgraph.bias_scales(op.name).astype(np.float32)

    def learned(self, op: Op) -> int:
        """Parameters of ``op`` that are learned."""
        if not isinstance(op, WEIGHTED):
            return 0
        return self.update.of(op).weights_of(op) + len(self.update.of(op).biases)

    @property
    def parameters(self) -> int:
        """All that is learned."""
        return sum(map(self.learned, self.ops))

    @property
    def blob_bytes(self) -> int:
        """Of what is saved."""
        return 4 * (self.parameters + 4)

    @cached_property
    def key(self) -> int:
        """What a blob is known to be of: this network's numbers, and what of it is learned."""
        digest = hashlib.sha256(json.dumps(self.update.to_json(self.graph), sort_keys=True).encode())
        for name in sorted(self.qgraph.weights):
            digest.update(
                self.qgraph.weights[name].tobytes() + self.qgraph.biases[name].tobytes() + self.qgraph.weight_scales[name].tobytes()
            )
        for quant in self.qgraph.tensors:
            digest.update(np.float32(quant.scale).tobytes() + bytes([quant.zero_point & 255]))
        return int.from_bytes(digest.digest()[:4], "little")


# code ----------------------------------------------------------------------------------------------------

Suffix = Literal["c", "cc"]
_COMMENTS: dict[Suffix, str] = {"c": " *", "cc": "//"}
_CASTS: dict[Suffix, dict[str, str]] = {
    "c": {"NULL": "NULL", "f32": "(float)", "u32": "(uint32_t)", "i32": "(int32_t)", "u8": "(uint8_t)", "int": "(int)"},
    "cc": {
        "NULL": "nullptr",
        "f32": "static_cast<float>",
        "u32": "static_cast<uint32_t>",
        "i32": "static_cast<int32_t>",
        "u8": "static_cast<uint8_t>",
        "int": "static_cast<int>",
    },
}
_BYTES: dict[Suffix, dict[str, str]] = {
    "c": {"u8p": "(uint8_t *)", "cu8p": "(const uint8_t *)"},
    "cc": {"u8p": "reinterpret_cast<uint8_t*>", "cu8p": "reinterpret_cast<const uint8_t*>"},
}
_EXACT = """/* The order and the rounding of every sum is part of what is promised: a product is rounded before it is added. */
#if defined(__FAST_MATH__)
#error "compile this file without -ffast-math: what is learned would be other numbers"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
"""


@dataclass(frozen=True)
class More:
    """What a folder of a network that learns holds beside others: templates by path, sources to compile, and words."""

    templates: dict[str, str]
    words: dict[str, str]


def adapt_more(learning: BoardLearning, suffix: Suffix, words: dict[str, str], kept_place: int | None = None) -> More:
    """The templates and words of ``learning`` for the folder in C (``c``) or C++ (``cc``), whose own ``words`` are known.

    ``kept_place``: byte of a compiled network's work area where the kept activation lies.
    """
    apart, ns, guard = learning.apart, words["ns"], words["GUARD"]
    names = {"c": "firmware_c_adapt", "cc": "firmware_adapt"}
    updated = ", ".join(
        f"{op.name} ({learning.update.of(op).words(op)})" for op in learning.ops if isinstance(op, WEIGHTED) and learning.learned(op)
    )
    memory = (
        f"RAM of learning: {apart.own_bytes:,} B beside the\n{_COMMENTS[suffix]} {apart.arena.sram_bytes:,} B of the network, "
        f"{learning.parameters:,} parameters."
    )
    own = {
        "more_sources": f" adapt.{suffix} adapt_data.{suffix}",
        "more_includes": '#include "adapt.h"\n',
        "more_programs": f"""# Sums as they stand: see adapt.{suffix}.
if(NOT MSVC)
  set_source_files_properties(adapt.{suffix} PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
endif()
""",
        "learned_words": f"it updates {updated}",
        "memory_words": memory,
        "adapt_constants": f"#define {guard}_ADAPT_BATCH {learning.batch}\n#define {guard}_ADAPT_BLOB_BYTES {learning.blob_bytes}u\n"
        f"#define {guard}_ADAPT_MOMENTUM_ON {int(learning.momentum > 0)}\n",
        "schedule_words": "constant"
        if learning.schedule == "constant"
        else "falling to 0 along half a cosine, rate * (1 + cos(pi * step / steps)) / 2",
        "rate": c_float(learning.rate),
        "batch": str(learning.batch),
        "kept_bytes": str(apart.kept_bytes),
        "replays": str(len(learning.replay_labels)),
        "replay_room": str(max(1, len(learning.replay_labels))),
        "replay_bytes": str(max(1, learning.replays.size)),
        "replay_array": _lines(learning.replays.reshape(-1).tolist() or [0]),
        "replay_labels": ", ".join(map(str, learning.replay_labels.tolist() or [0])),
        "test_steps": str(len(learning.test)),
        "test_array": "\n".join(f"    {{{one.image}, {one.label}, {c_float(float(one.rate))}, {one.sum}u}}," for one in learning.test),
        "exact": _EXACT,
        "kept_api": _KEPT_API[suffix].format(ns=ns),
        "kept_code": _kept_code(suffix, ns, kept_place),
        "more_readme": _readme(learning, suffix, ns, guard),
    }
    own["core"] = _core(learning, suffix, {**words, **own})
    return More(read_templates(names[suffix]), own)


_KEPT_API: dict[Suffix, str] = {
    "cc": "\n// What the network keeps of the last frame for learning, by number; nullptr before.\nconst int8_t* Kept(int number);\n",
    "c": "\n/* What the network keeps of the last frame for learning, by number; null where there was none. */\n"
    "const int8_t *{ns}_kept(int number);\n",
}


def _kept_code(suffix: Suffix, ns: str, place: int | None) -> str:
    if suffix == "cc":
        return (
            "\nconst int8_t* Kept(int number) {\n"
            "  return ready ? reinterpret_cast<const int8_t*>(interpreter->output(static_cast<size_t>(number + 1))"
            "->data.data) : nullptr;\n}\n"
        )
    if place is None:
        raise InternalError("a compiled network without a place of what it keeps")
    return (
        f"\nconst int8_t *{ns}_kept(int number) {{\n  (void)number; /* there is one */\n"
        f"  return answered ? (const int8_t *)network.area + {place} : NULL;\n}}\n"
    )


def _core(learning: BoardLearning, suffix: Suffix, words: dict[str, str]) -> str:
    used = {_PARTS[op.kind] for op in learning.ops}
    learns = {_PARTS[op.kind] for op in learning.ops if learning.weighted(op)}
    passes = {_PARTS[op.kind] for op in learning.ops if set(op.inputs) & learning.apart.gradients.keys()}
    texts = read_templates("adapt")
    parts = [texts["types.c"], texts["window.c"] if used & {"Conv", "Depthwise"} else ""]
    for name, file in _FILES.items():
        if name in used:
            parts.append(_without(texts[file], name, passes=name in passes, learns=name in learns))
    parts.append(texts["drive.c"])

    def cases(what: str, among: set[str], call: str, indent: str) -> str:
        lines = [f"{indent}case k{name}: {name}{what}({call}); break;" for name in _FILES if name in among]
        return "\n".join([*lines, f"{indent}default: break;"])

    own = {
        **words,
        **_CASTS[suffix],
        **_BYTES[suffix],
        "own_floats": str(learning.apart.own_bytes // REAL),
        "tables": _tables(learning),
        "forward_cases": cases("Forward", used, "op", "      "),
        "pass_cases": cases("Pass", passes, "op, gradient, passed", "    "),
        "learn_cases": cases("Learn", learns, "op, gradient", "        "),
    }
    return fill("adapt", "".join(parts), own).decode()


def _without(text: str, name: str, *, passes: bool, learns: bool) -> str:
    """``text`` without the functions that nothing calls."""
    functions = text.split("\nstatic ")
    kept = [
        one
        for one in functions
        if (passes or not one.startswith(f"void {name}Pass")) and (learns or not one.startswith(f"void {name}Learn"))
    ]
    return "\nstatic ".join(kept)


def _tables(learning: BoardLearning) -> str:
    apart, tensors, text = learning.apart, learning.tensors, []
    number = {tensor: index for index, tensor in enumerate(tensors)}
    quants = learning.qgraph.tensors
    text.append(
        f"enum {{ kOps = {len(learning.ops)}, kKept = {len(apart.kept)}, "
        f"kOutput = {number[learning.graph.logits]}, kOutputs = {learning.graph.classes} }};"
    )
    text.append(f"static const uint32_t kMagic = 0x{MAGIC:08x}u, kKey = 0x{learning.key:08x}u, kParameters = {learning.parameters}u;")
    if learning.momentum > 0:
        text.append(f"static const float kMomentum = {c_float(learning.momentum)};")
    rows = []
    for tensor in tensors:
        kept = apart.kept.index(tensor) if tensor in apart.kept else _NOWHERE
        gradient = _place(apart.gradients.get(tensor))
        zero, scale = (quants[tensor].zero_point, c_float(quants[tensor].scale)) if kept != _NOWHERE else (0, "1.0f")
        rows.append(f"  {{{kept}, {_place(apart.values.get(tensor))}, {gradient}, {zero}, {scale}}},")
    text.append("static const Value values[] = {\n" + "\n".join(rows) + "\n};")
    for i, op in enumerate(learning.ops):
        if isinstance(op, WEIGHTED):
            text.append(f"static const int8_t fixed_{i}[] = {{\n" + _lines(learning.qgraph.weights[op.name].reshape(-1).tolist()) + "\n};")
            text.append(f"static const float steps_{i}[] = {{\n" + _reals(learning.steps(op)) + "\n};")
            text.append(f"static const float first_{i}[] = {{\n" + _reals(learning.first_biases(op)) + "\n};")
    text.append("static const Op ops[] = {\n" + "\n".join(_row(learning, i, number) for i in range(len(learning.ops))) + "\n};")
    elements = [learning.graph.tensors[tensor].elements for tensor in tensors]
    text.append("static const uint32_t elements[] = {" + ", ".join(map(str, elements)) + "};")
    text.append(f"static const uint32_t kept_bytes[] = {{{', '.join(map(str, elements[: len(apart.kept)]))}}};")
    text.append("/* Gradients that an operator is the first to write: of its first input, of its second. */")
    text.append("static const uint8_t clears[] = {" + ", ".join(map(str, clears_of(learning))) + "};")
    text.append("static const uint32_t learned[] = {" + ", ".join(str(learning.learned(op)) for op in learning.ops) + "};")
    return "\n".join(text) + "\n"


def clears_of(learning: BoardLearning) -> list[int]:
    """By operator of the tail which gradients it is the first to write, backwards: 1 its first input's, 2 its second's, 3 both."""
    found, seen = [0] * len(learning.ops), {learning.graph.logits}
    for i in reversed(range(len(learning.ops))):
        for side, tensor in enumerate(dict.fromkeys(learning.ops[i].inputs)):
            if tensor in learning.apart.gradients and tensor not in seen:
                found[i] |= 1 << side
                seen.add(tensor)
    return found


def _row(learning: BoardLearning, i: int, number: dict[int, int]) -> str:
    op, apart, index = learning.ops[i], learning.apart, learning.apart.ops[i]
    (in_h, in_w, in_c), (out_h, out_w, out_c) = (_map(learning.graph.shape(t)) for t in (op.inputs[0], op.output))
    kernel, stride, pad = (1, 1), (1, 1), (0, 0)
    act = "none"
    match op:
        case Conv2D() | DepthwiseConv2D():
            kernel, stride, pad, act = op.kernel, op.stride, (op.padding.top, op.padding.left), op.act
        case FullyConnected() | Add():
            act = op.act
        case Mean():
            pass
        case _:
            raise UserError(f"{op.name}: {op.kind} is not learned through on the board")
    start, place = apart.parameters.get(index), _NOWHERE
    weights = biases = place
    if start is not None:
        weights = start // REAL if learning.weighted(op) else _NOWHERE
        biases = start // REAL + (learning.learned(op) - out_c if learning.weighted(op) else 0)
    arrays = (f"fixed_{i}", f"steps_{i}", f"first_{i}") if isinstance(op, WEIGHTED) else ("0", "0", "0")
    second = op.inputs[1] if len(op.inputs) > 1 else op.inputs[0]
    values = [
        f"k{_PARTS[op.kind]}",
        _ACTS[act],
        number[op.inputs[0]],
        number[second],
        number[op.output],
        *(*kernel, *stride, *pad),
        *(in_h, in_w, in_c, out_h, out_w, out_c),
        _place(apart.masks.get(index)),
        weights,
        biases,
        _place(apart.momenta.get(index)),
        _place(apart.sums.get(index)),
        *arrays,
    ]
    return "  {" + ", ".join(map(str, values)) + f"}}, /* {op.name} */"


def _map(shape: Sequence[int]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, shape[0])


def _place(offset: int | None) -> int:
    return _NOWHERE if offset is None else offset // REAL


def _lines(values: Sequence[int]) -> str:
    return "\n".join("    " + "".join(f"{value}," for value in values[i : i + 24]) for i in range(0, len(values), 24))


def _reals(values: npt.NDArray[np.float32]) -> str:
    return "\n".join("    " + ", ".join(map(c_float, values[i : i + 6].tolist())) + "," for i in range(0, len(values), 6))


def _readme(learning: BoardLearning, suffix: Suffix, ns: str, guard: str) -> str:
    apart = learning.apart
    calls = {
        "cc": f"""#include "adapt.h"

{ns}::AdaptBegin();                        // or AdaptRestore(blob, bytes) with what was saved
{ns}::AdaptStep(frame, label);             // a frame and its class: one step
{ns}::AdaptReplay(i);                      // an old input from flash, against forgetting; i below kAdaptReplays
const int found = {ns}::AdaptAnswer(frame);  // by what was learned; Classify answers as exported
const size_t bytes = {ns}::AdaptSave(blob, sizeof blob);""",
        "c": f"""#include "adapt.h"

{ns}_adapt_begin();                                  /* or {ns}_adapt_restore(blob, bytes) with what was saved */
{ns}_adapt_step(&frame, label, {guard}_ADAPT_RATE);  /* a frame and its class: one step */
{ns}_adapt_replay(i, {guard}_ADAPT_RATE);            /* an old input from flash; i below {guard}_ADAPT_REPLAYS */
const int found = {ns}_adapt_answer(&frame);         /* by what was learned; classify answers as exported */
const size_t bytes = {ns}_adapt_save(blob, sizeof blob);""",
    }
    return f"""
## Learning

`adapt.h` learns on the board: RAM {apart.own_bytes:,} B beside the network's {apart.arena.sram_bytes:,} B, {learning.parameters:,}
parameters in float32, a blob of {learning.blob_bytes:,} B for flash. In a sketch or a program:

```c
{calls[suffix]}
```

`build/self_test` runs the self-test of learning too: it proves that a board learns the very numbers that were worked out on the host.
Compile `adapt.{suffix}` without `-ffast-math`.
"""
