"""What each build of TFLM's kernels takes: structures and scratch of a Graph's operators, and all that an operator of a file takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from tinynas.cost.esp import esp_needs, esp_structure
from tinynas.cost.kernel import FAMILY_OF, Build, Needs
from tinynas.cost.kernel_sizes import mean_scratch
from tinynas.cost.kernels import KERNELS, kernel_of, needs, structure_of
from tinynas.cost.schema import FileOp, FileTensor

BUILDS: tuple[Build, ...] = get_args(Build)


def _as_cmsis(build: Build) -> Cmsis | None:
    return next((name for name in CMSIS if name == build), None)


def build_structure(name: str, build: Build) -> int:
    """Bytes of the structure that the kernel of TFLite operator ``name`` keeps."""
    cmsis = _as_cmsis(build)
    if cmsis is not None:
        return cmsis_structure(name, cmsis)
    return esp_structure(name) if build == "esp-nn" else structure_of(name, KERNELS[name], FAMILY_OF[build])


def build_needs(op: FileOp, tensors: Sequence[FileTensor], build: Build) -> Needs | None:
    """What the kernel of a file's ``op`` takes; None where the table of kernels does not have it."""
    cmsis = _as_cmsis(build)
    if cmsis is not None:
        return cmsis_needs(op, tensors, cmsis)
    return esp_needs(op, tensors) if build == "esp-nn" else needs(op, tensors, FAMILY_OF[build])


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


ScratchByBuild = Mapping[Build, tuple[Any, ...]]
"""Bytes of each scratch buffer, live during the operator only; builds that ask for none are left out. Sizes may be integer arrays."""


def conv_scratches(kernel: tuple[int, int], stride: tuple[int, int], in_channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's convolution."""
    area = kernel[0] * kernel[1]
    return _given({build: conv_scratch(build, area, in_channels, strided=stride != (1, 1)) for build in CMSIS})


def depthwise_scratches(kernel: tuple[int, int], channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's depthwise convolution."""
    return _given({build: depthwise_scratch(build, *kernel, channels) for build in CMSIS})


def dense_scratches(outputs: Any) -> ScratchByBuild:
    """Scratch of a Graph's dense layer."""
    return _given({build: dense_scratch(build, outputs) for build in CMSIS})


def pool_scratches(kind: str, channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's pooling."""
    return _given({build: pool_scratch(build, kind, channels) for build in CMSIS})


def mean_scratches(channels: Any) -> ScratchByBuild:
    """Scratch of a Graph's mean over height and width: the reference kernel everywhere."""
    scratch = mean_scratch(4, 2, channels)
    return {**dict.fromkeys(BUILDS, scratch), **{build: averaged_scratch(build, scratch) for build in CMSIS}}


def _given(scratch: Mapping[Cmsis, tuple[Any, ...]]) -> ScratchByBuild:
    return {build: sizes for build, sizes in scratch.items() if sizes}
