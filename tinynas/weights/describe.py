"""The architecture of a .tflite: its operators read as the blocks that an :class:`~tinynas.arch.Arch` is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinynas.arch import MAX_REACH, Arch, Block, ConvLayer, MBConv, Pool, Separable
from tinynas.errors import ArchError, ModelFileError
from tinynas.graph import WINDOWED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Pool2D, lower
from tinynas.weights.files import read_file
from tinynas.weights.nets import network_of

_HINT = "train a network of the zoo with its weights instead: tinynas promote NET --init FILE"


def arch_of_file(path: str) -> Arch:
    """The architecture of the .tflite at ``path``, by its name. Raises ModelFileError, which names the operator that is in no block."""
    known = read_file(Path(path), path)
    graph = network_of(known).graph
    assert known.net is not None
    arch = _Describing(path, graph, known.net.numbers).arch(Path(path).stem)
    try:
        made = lower(arch)
    except ArchError as error:
        raise ModelFileError(f"{path}: {error.message}", _HINT) from None
    for ours, theirs in zip(made.ops, graph.ops, strict=False):
        if type(ours) is not type(theirs) or made.shape(ours.output) != graph.shape(theirs.output):
            raise ModelFileError(f"{path}: its operator {known.net.numbers[theirs.name]} has another shape than blocks here give it", _HINT)
    return arch


class _Describing:
    def __init__(self, title: str, graph: Graph, numbers: Any) -> None:
        self.title, self.graph, self.numbers, self.at = title, graph, numbers, 0

    def fail(self, why: str = "begins no block that is known here") -> ModelFileError:
        op = self.graph.ops[min(self.at, len(self.graph.ops) - 1)]
        return ModelFileError(f"{self.title}: its operator {self.numbers[op.name]} ({op.kind}) {why}", _HINT)

    def peek(self, ahead: int = 0) -> Any:
        ops = self.graph.ops
        return ops[self.at + ahead] if self.at + ahead < len(ops) else None

    def arch(self, name: str) -> Arch:
        height, width, channels = self.graph.input.shape
        stem, head, blocks, x = None, None, list[Block](), self.graph.inputs[0]
        if self._plain_conv(x):
            layer, x = self._conv(x)
            stem = layer
        while not isinstance(self.peek(), Mean):
            if self.peek() is None:
                raise self.fail("is not followed by an average over the map and a classifier")
            block, x = self._block(x)
            blocks.append(block)
        # An average over windows that leaves one place is what the average over the map does.
        if blocks and isinstance(blocks[-1], Pool) and blocks[-1].op == "avg" and self.graph.shape(x)[:2] == (1, 1):
            blocks.pop()
        if blocks and isinstance(blocks[-1], ConvLayer) and blocks[-1].kernel == 1:
            head = blocks.pop()
        self.at += 1
        last = self.peek()
        if not isinstance(last, FullyConnected) or self.peek(1) is not None:
            raise self.fail("is more than one classifier behind the average")
        document = {"name": name, "height": height, "width": width, "channels": channels, "classes": last.out_features}
        return Arch(**document, stem=stem, blocks=tuple(blocks), head=head)

    def _plain_conv(self, x: int) -> bool:
        op = self.peek()
        return isinstance(op, Conv2D) and op.inputs == (x,) and op.kernel != (1, 1)

    def _act(self, op: Any) -> tuple[str, int]:
        """(activation, tensor behind it) of the operator that was just read."""
        after = self.peek()
        if isinstance(after, HardSwish) and after.inputs == (op.output,) and op.act == "none":
            self.at += 1
            return "h_swish", after.output
        return op.act, op.output

    def _conv(self, x: int) -> tuple[ConvLayer, int]:
        op = self.peek()
        self._check_dilation(op)
        self.at += 1
        act, x = self._act(op)
        return ConvLayer(out=op.out_channels, kernel=op.kernel, stride=op.stride, dilation=op.dilation, act=act), x

    def _check_dilation(self, op: Any) -> None:
        if op.dilation != (1, 1) and (op.stride != (1, 1) or max(op.reach) > MAX_REACH):
            raise self.fail(f"is dilated, and has a stride or spans more than {MAX_REACH} pixels, which blocks here do not")

    def _block(self, x: int) -> tuple[Block, int]:
        op = self.peek()
        if not isinstance(op, WINDOWED) or op.inputs != (x,):
            raise self.fail()
        if isinstance(op, Pool2D):
            if not op.padding.none:
                raise self.fail("pools with padding, which blocks here do not")
            self.at += 1
            return Pool(op=op.op, kernel=op.kernel, stride=op.stride), op.output
        begun, entry, mid, acts = self.at, x, None, set[str]()
        if isinstance(op, Conv2D):
            if op.kernel != (1, 1):
                return self._conv(x)
            self.at += 1
            act, x = self._act(op)
            acts.add(act)
            mid = op.out_channels
            op = self.peek()
        if not isinstance(op, DepthwiseConv2D) or op.inputs != (x,):
            self.at = begun
            return self._conv(entry)
        depthwise = op
        self._check_dilation(op)
        self.at += 1
        act, x = self._act(op)
        acts.add(act)
        op = self.peek()
        if not isinstance(op, Conv2D) or op.kernel != (1, 1) or op.inputs != (x,) or len(acts) > 1:
            raise self.fail("is not the 1x1 convolution that a depthwise one is followed by here")
        self.at += 1
        after, x = self._act(op)
        window = {"kernel": depthwise.kernel, "stride": depthwise.stride, "dilation": depthwise.dilation}
        common = {"out": op.out_channels, **window, "act": acts.pop()}
        if after != "none":
            if mid is not None or after != common["act"]:
                raise self.fail("follows a block that is none here")
            return Separable(**common), x
        add = self.peek()
        residual = isinstance(add, Add) and set(add.inputs) == {entry, x} and add.act == "none"
        if residual:
            self.at += 1
            x = add.output
        channels = self.graph.shape(entry)[-1]
        if mid is None:
            return MBConv(**common, residual=residual), x
        ratio = mid / channels
        sizes = {"expand": ratio} if 1 < ratio <= 32 and round(channels * ratio) == mid else {"expand": 2, "mid": mid}
        return MBConv(**common, **sizes, residual=residual), x
