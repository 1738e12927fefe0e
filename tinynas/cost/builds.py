"""What each build of TFLM's kernels takes: structures and scratch of a Graph's operators, and all that an operator of a file takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from tinynas.cost.cmsis import (
    CMSIS,
    Cmsis,
    averaged_scratch,
    cmsis_needs,
    cmsis_structure,
    conv_scratch,
    dense_scratch,
    depthwise_scratch,
    pool_scratch,
)
from tinynas.cost.esp import ESP, Esp, Window, esp_needs, esp_structure
from tinynas.cost.esp import conv_scratch as esp_conv_scratch
from tinynas.cost.esp import depthwise_scratch as esp_depthwise_scratch
from tinynas.cost.kernel import FAMILY_OF, Build, Needs
from tinynas.cost.kernel_sizes import mean_scratch
from tinynas.cost.kernels import KERNELS, kernel_of, needs, structure_of
from tinynas.cost.schema import FileOp, FileTensor

BUILDS: tuple[Build, ...] = get_args(Build)


def _as_cmsis(build: Build) -> Cmsis | None:
    return next((name for name in CMSIS if name == build), None)


def _as_esp(build: Build) -> Esp | None:
    return next((name for name in ESP if name == build), None)


def build_structure(name: str, build: Build) -> int:
    """Bytes of the structure that the kernel of TFLite operator ``name`` keeps."""
    cmsis = _as_cmsis(build)
    if cmsis is not None:
        return cmsis_structure(name, cmsis)
    return esp_structure(name) if _as_esp(build) is not None else structure_of(name, KERNELS[name], FAMILY_OF[build])


def build_needs(op: FileOp, tensors: Sequence[FileTensor], build: Build) -> Needs | None:
    """What the kernel of a file's ``op`` takes; None where the table of kernels does not have it."""
    cmsis, esp = _as_cmsis(build), _as_esp(build)
    if cmsis is not None:
        return cmsis_needs(op, tensors, cmsis)
    return needs(op, tensors, FAMILY_OF[build]) if esp is None else esp_needs(op, tensors, esp)


class FileNeeds(Mapping[Build, Needs]):
    """What TFLM's kernels of one operator of a file take, by build: worked out when it is asked for."""

    def __init__(self, op: FileOp, tensors: Sequence[FileTensor]) -> None:
        self._op, self._tensors = op, tensors
        self._known: dict[Build, Needs] = {}

    def __getitem__(self, build: Build) -> Needs:
        if build not in self._known:
            found = build_needs(self._op, self._tensors, build)
            if found is None:
                raise KeyError(build)
            self._known[build] = found
        return self._known[build]

    def __iter__(self) -> Iterator[Build]:
        return iter(BUILDS)

    def __len__(self) -> int:
        return len(BUILDS)


def file_needs(op: FileOp, tensors: Sequence[FileTensor]) -> FileNeeds | None:
    """What the kernels of ``op`` take; None where the table of kernels does not have it."""
    return None if kernel_of(op) is None else FileNeeds(op, tensors)


class GraphScratch(Mapping[Build, tuple[Any, ...]]):
    """Bytes of each scratch buffer of a Graph's operator, live during the operator only, by build: worked out when it is asked for.

    Builds that ask for none are left out. Sizes may be integer arrays.
    """

    def __init__(self, work_out: Callable[[Build], tuple[Any, ...]]) -> None:
        self._work_out = work_out
        self._known: dict[Build, tuple[Any, ...]] = {}

    def __getitem__(self, build: Build) -> tuple[Any, ...]:
        if build not in self._known:
            self._known[build] = self._work_out(build)
        if not self._known[build]:
            raise KeyError(build)
        return self._known[build]

    def get(self, build: Build, default: Any = None) -> Any:
        """The same, or ``default`` where ``build`` asks for none; it is asked often."""
        known = self._known.get(build)
        if known is None:
            known = self._known[build] = self._work_out(build)
        return known or default

    def __iter__(self) -> Iterator[Build]:
        return (build for build in BUILDS if self.get(build))

    def __len__(self) -> int:
        return sum(1 for _ in self)


ScratchByBuild = Mapping[Build, tuple[Any, ...]]
"""As :class:`GraphScratch`."""


def conv_scratches(window: Window, out_channels: Any, bits: int = 8) -> ScratchByBuild:
    """Scratch of a Graph's convolution with weights of ``bits``."""
    return GraphScratch(partial(_conv, window, out_channels, bits))


def depthwise_scratches(window: Window, bits: int = 8) -> ScratchByBuild:
    """Scratch of a Graph's depthwise convolution with weights of ``bits``."""
    return GraphScratch(partial(_depthwise, window, bits))


def dense_scratches(inputs: Any, outputs: Any, bits: int = 8) -> ScratchByBuild:
    """Scratch of a Graph's dense layer with weights of ``bits``."""
    if bits == 8:
        return _given({build: dense_scratch(build, outputs) for build in CMSIS})
    return GraphScratch(partial(_dense, inputs * outputs, outputs))


def pool_scratches(kind: str, channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's pooling."""
    return _given({build: pool_scratch(build, kind, channels) for build in CMSIS})


def mean_scratches(channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's mean over height and width: the reference kernel everywhere."""
    scratch = mean_scratch(4, 2, channels)
    return {**dict.fromkeys(BUILDS, scratch), **{build: averaged_scratch(build, scratch) for build in CMSIS}}


# Reference kernels unpack weights of few bits to a byte each; esp-nn's operators do so too, and ask for their int8 kernel's scratch beside.
def _conv(window: Window, out_channels: Any, bits: int, build: Build) -> tuple[Any, ...]:
    cmsis, esp = _as_cmsis(build), _as_esp(build)
    narrow = None if bits == 8 else window.area * window.channels * out_channels
    if cmsis is not None:
        return conv_scratch(cmsis, window.area, window.channels, strided=window.stride != (1, 1), narrow=narrow)
    unpacked = () if narrow is None else (narrow,)
    return unpacked if esp is None else (*unpacked, *esp_conv_scratch(esp, window, out_channels))


def _depthwise(window: Window, bits: int, build: Build) -> tuple[Any, ...]:
    cmsis, esp = _as_cmsis(build), _as_esp(build)
    if cmsis is not None:
        return depthwise_scratch(cmsis, *window.kernel, window.channels, narrow=bits != 8, dilated=window.dilation != (1, 1))
    unpacked = () if bits == 8 else (window.area * window.channels,)
    return unpacked if esp is None else (*unpacked, *esp_depthwise_scratch(esp, window, 1))


def _dense(weights: Any, outputs: Any, build: Build) -> tuple[Any, ...]:
    cmsis = _as_cmsis(build)
    return (weights,) if cmsis is None else dense_scratch(cmsis, outputs, narrow=weights)


def _given(scratch: Mapping[Cmsis, tuple[Any, ...]]) -> ScratchByBuild:
    return {build: sizes for build, sizes in scratch.items() if sizes}
