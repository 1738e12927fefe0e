"""Which channels of which tensors stand and fall together: a residual ties what it adds, a depthwise convolution its two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tinynas.errors import ModelFileError
from tinynas.shrink.arithmetic import Ints
from tinynas.shrink.model import Subgraph
from tinynas.shrink.weighted import Weighted

#: Channels of all tensors together that are followed.
_MOST = 1_000_000


@dataclass(frozen=True)
class Sink:
    """A convolution or fully connected layer that reads a tensor: each channel is a column of its weights."""

    reader: Weighted

    def reads(self) -> NDArray[np.bool_]:
        """(columns,): whether any weight of a column is not zero."""
        return np.asarray((self.reader.values != 0).any((0, 1)))


@dataclass
class Slots:
    """Every channel of every tensor is a slot; ties join slots into classes that stay or go as one."""

    first: dict[int, int] = field(default_factory=dict)
    """First slot of each tensor."""
    sizes: dict[int, int] = field(default_factory=dict)
    parent: list[int] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    """Slots that must stay; see :meth:`frozen`."""
    sinks: list[Sink] = field(default_factory=list)

    @staticmethod
    def of(graph: Subgraph) -> Slots:
        """Slots of all int8 tensors with a last dimension."""
        slots = Slots()
        for number, tensor in enumerate(graph.tensors):
            if tensor.int8 and tensor.dims and tensor.channels > 0 and (tensor.array is not None or not tensor.constant):
                slots.first[number], slots.sizes[number] = len(slots.parent), tensor.channels
                if len(slots.parent) + tensor.channels > _MOST:
                    raise ModelFileError(f"its tensors have more than {_MOST:,} channels", "no microcontroller's network is so wide")
                slots.parent += range(len(slots.parent), len(slots.parent) + tensor.channels)
        return slots

    def __contains__(self, tensor: int) -> bool:
        return tensor in self.first

    def named(self, tensor: int) -> range:
        """The slots of ``tensor``."""
        return range(self.first[tensor], self.first[tensor] + self.sizes[tensor])

    def root(self, slot: int) -> int:
        """The slot by which its class is called."""
        while self.parent[slot] != slot:
            self.parent[slot] = self.parent[self.parent[slot]]
            slot = self.parent[slot]
        return slot

    def tie(self, some: Sequence[int], others: Sequence[int]) -> None:
        """Join slots pairwise."""
        for one, other in zip(some, others, strict=True):
            a, b = self.root(one), self.root(other)
            self.parent[max(a, b)] = min(a, b)

    def freeze(self, tensor: int) -> None:
        """Keep all channels of ``tensor``, where it has slots."""
        if tensor in self.first:
            self.kept.update(self.named(tensor))

    def roots(self) -> Ints:
        """(slots,): the class of each slot."""
        return np.array([self.root(slot) for slot in range(len(self.parent))], np.int64)

    def frozen(self) -> set[int]:
        """Classes that must stay."""
        return {self.root(slot) for slot in self.kept}
