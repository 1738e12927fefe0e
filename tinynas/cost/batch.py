"""BatchEstimator: the costs of many genotypes of a space at once, in numpy, with the numbers of ``estimate``.

The cost of a block depends on few things (map size, channels in and out, stride, kernel, expand ratio), so every
block that a space can hold is tallied once, in a table, by the builder that lowers a network (see
:mod:`tinynas.cost.tally`); a network is then one table row per block, merged. Nothing is approximated: the tests compare
with ``estimate`` network by network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.arch import WeightBits, pair
from tinynas.cost.anatomy import Anatomy, Figures, figures_of
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.code_flash import code_of
from tinynas.cost.compiled_batch import columns_of, least_kept, least_of, many_compiled, many_streams, steps_of
from tinynas.cost.flash import (
    BIAS_SHAPE_BYTES,
    CODE_BYTES,
    OptionKey,
    Terms,
    additive_bytes,
    metadata_reserve,
    structure_terms,
    total_bytes,
    with_contents,
    zero_point_terms,
)
from tinynas.cost.front_end import FrontEndCosts, front_end_cost
from tinynas.cost.instructions import Counts, counts_of
from tinynas.cost.kernel import FAMILY_OF, aligned
from tinynas.cost.latency import LatencyModel, latency_model
from tinynas.cost.quantities import QUANTITIES, values_of
from tinynas.cost.runtimes import Runtime, flash_bytes, runtime_named
from tinynas.cost.setup import RECORDS, planning_bytes, preparing_bytes
from tinynas.cost.stepwise import MAX_PERIOD
from tinynas.cost.tail import LAYOUTS, assemble, kernel_structure, with_ends
from tinynas.cost.tally import STARTS, Sums, Tally, tally
from tinynas.cost.update_batch import COLUMNS as LEARNED
from tinynas.cost.update_batch import Block, block_of, live_of
from tinynas.errors import InternalError, UserError
from tinynas.front_end import FrontEnd
from tinynas.graph import WINDOWED, Builder, MBSizes, SeparableSizes, as_same, classifier, mbconv, separable
from tinynas.space import Space, StageSpace, make_divisible
from tinynas.target.registrations import Alone

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Networks costed at a time: small enough that the working arrays stay in the processor's cache.
CHUNK = 4096
#: A table of more rows than this would not pay; the space is refused with the advice to restrict it.
MAX_ROWS = 4_000_000

# Columns of the block tables: sums (small ones share a column), options by their start (in one column), maxima, and sets as
# bits of words. Fewer columns are faster.
_SMALL = ("tensors", "operators", "convolutions", "uncounted")
_LARGE = [name for name in Sums._fields if name not in _SMALL]
_PACKED = len(_LARGE)
_ARRAYS = _LARGE.index("arrays")
_REQUEST = RECORDS["mcu"].request
#: First of the columns of kernel data and handles, one for each build of TFLM's kernels; then come their options.
_KEPT = _PACKED + 1
#: Bits of a number that shares a column; no network has so many tensors, and no block so many bytes of parsed options.
_BITS_EACH = 15
_MASK = (1 << _BITS_EACH) - 1
#: Bits a word of a set; the sign bit is left alone.
_WORD = 62


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Costs of N networks, in the order asked; units as in :class:`tinynas.cost.Cost`."""

    macs: Ints
    params: Ints
    weights_bytes: Ints
    flash_bytes: Ints
    sram_bytes: Ints
    head_bytes: Ints
    tail_bytes: Ints
    latency_ms: Floats
    """NaN where there is no evidence for a latency."""
    instructions: Floats
    """Executed instructions of an inference; NaN where none were counted."""
    code_bytes: Ints | Floats
    """NaN where it is not known."""
    stack_bytes: Ints | Floats
    """NaN where it is not known."""
    update_sram_bytes: Ints | Floats
    """At least so much, and nearly always just that (:mod:`tinynas.cost.update_batch`); NaN where no update was named."""
    anatomy: Figures
    """What a search looks at beside the costs, each (N,)."""
    front_end: FrontEndCosts | None = None
    """What turns sound into their inputs takes; None where there is none. Every other figure is of the networks alone; :meth:`values` and
    all that is limited has both."""

    @property
    def program_bytes(self) -> Ints | Floats:
        """Flash of the models and of the code that runs them; NaN where that is not known."""
        return self.flash_bytes + self.code_bytes

    def __len__(self) -> int:
        return len(self.macs)

    def values(self, index: int) -> dict[str, float | None]:
        """The figures of network ``index``, as :meth:`tinynas.cost.Cost.values` gives them."""
        figures = {name: column[index].item() for name, column in values_of(self).items()}
        return {name: None if math.isnan(figure) else figure for name, figure in figures.items()}

    def column(self, name: str) -> Floats:
        """The quantity ``name`` of :data:`tinynas.cost.quantities.QUANTITIES`, of every network; NaN where it is not known."""
        return np.asarray(QUANTITIES[name].of(self), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Axis:
    """Distinct values that a quantity can take, and an index into them."""

    values: tuple[Any, ...]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Axis:
        """The distinct ones of ``values``, in order."""
        return cls(tuple(sorted(set(values))))

    def __len__(self) -> int:
        return len(self.values)

    def index(self, value: Any) -> int:
        """Position of ``value``."""
        return self.values.index(value)


@dataclass
class Table:
    """Tallies of one kind of block at every point of a grid of ``counts``, row-major, then a row of zeros."""

    counts: tuple[int, ...]
    parts: list[tuple[Ints, Tally]] = field(default_factory=list)
    """(row numbers, their tally), until they are laid out as columns."""
    rows: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    compiled: list[tuple[Ints, Ints]] = field(default_factory=list)
    """(row numbers, their operators' columns), for compiled code, until they are laid out."""
    operators: Ints = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))
    """(rows, operators, columns) of tinynas.cost.compiled."""
    learned: list[tuple[Ints, Block]] = field(default_factory=list)
    """(row numbers, what learning takes there), until they are laid out."""
    layers: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(rows,) operators with weights, where learning is counted."""
    updates: Ints = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))
    """(rows, numbers of layers, columns) of tinynas.cost.update_batch."""

    def __post_init__(self) -> None:
        if self.size > MAX_ROWS:
            raise UserError(f"a space offers {self.size:,} different blocks in one place: too many to tabulate", "offer fewer choices")

    @property
    def size(self) -> int:
        """Number of rows, less that of zeros."""
        size = 1
        for count in self.counts:
            size *= count
        return size

    def lay_out(self, layout: _Layout) -> None:
        """Columns from the tallies."""
        rows = np.zeros((self.size + 1, layout.columns), dtype=np.int64)
        for at, part in self.parts:
            for column, name in enumerate(_LARGE):
                rows[at, column] = getattr(part.sums, name)
            rows[at, _PACKED] = _packed([getattr(part.sums, name) for name in _SMALL])
            for column, (structures, handles) in zip(layout.kept, part.kept, strict=True):
                rows[at, column] = (structures << _BITS_EACH) + handles
            for column, options in zip(layout.options, part.options, strict=True):
                rows[at, column] = _packed(options)
            for column, prepared in zip(layout.prepared, part.prepared, strict=True):
                rows[at, column] = prepared
            rows[at, layout.head] = part.head
            rows[at, layout.narrowing] = part.narrowing
            if layout.buffers:
                rows[at, layout.head + 2], rows[at, layout.head + 3] = part.work_buffer, part.int16_kernel
            for key in part.keys:
                layout.mark(rows, at, layout.keys.index(key))
            for use in part.uses.intersection(layout.uses):
                layout.mark(rows, at, len(layout.keys) + layout.uses.index(use))
            for value in part.dense:
                layout.mark(rows, at, layout.first_dense + np.searchsorted(layout.dense, value))
            for value in part.channels:
                layout.mark(rows, at, layout.first_channel + np.searchsorted(layout.channels, value))
        self.rows, self.parts = rows, []
        if self.compiled:
            most = max(len(columns) for _, columns in self.compiled)
            self.operators = np.zeros((self.size + 1, most, self.compiled[0][1].shape[1]), dtype=np.int64)
            for at, columns in self.compiled:
                self.operators[at, : len(columns)] = columns.transpose(2, 0, 1)
            self.compiled = []
        if self.learned:
            self.layers = np.zeros(self.size + 1, dtype=np.int64)
            self.updates = np.zeros((self.size + 1, max(block.layers for _, block in self.learned) + 2, len(LEARNED)), dtype=np.int64)
            for at, block in self.learned:
                self.layers[at], self.updates[at, : block.layers + 2] = block.layers, block.rows
            self.learned = []


def _packed(values: Sequence[Any]) -> Any:
    """Small numbers in one."""
    return sum(value << (_BITS_EACH * number) for number, value in enumerate(values))


def _sums(columns: Ints) -> Sums:
    """The sums in merged columns (columns, N)."""
    small = {name: (columns[_PACKED] >> (_BITS_EACH * number)) & _MASK for number, name in enumerate(_SMALL)}
    return Sums(**{name: columns[number] for number, name in enumerate(_LARGE)}, **small)


class _Layout:
    """Where the columns lie, and which bit stands for which options table, use of an operator that is not int8 everywhere, dense
    width and channel count of a convolution."""

    def __init__(self, tables: Sequence[Table], runtime: Runtime) -> None:
        tallies = [part for table in tables for _, part in table.parts]
        self.buffers = runtime.in_place_depthwise
        builds = len(runtime.builds)
        self.kept = range(_KEPT, _KEPT + builds)
        self.options = range(_KEPT + builds, _KEPT + 2 * builds)
        self.summed = slice(0, _KEPT + builds)
        self.prepared = range(_KEPT + 2 * builds, _KEPT + 3 * builds)
        self.head = self.prepared.stop
        self.narrowing = self.head + 1
        self.maximised = slice(self.head, self.head + (4 if self.buffers else 2))
        self.bits = slice(self.maximised.stop, None)
        self.keys: list[OptionKey] = sorted({key for part in tallies for key in part.keys}, key=str)
        uses = {use for part in tallies for use in part.uses}
        elsewhere = {kind for kind, alone in uses if alone != "int8"}
        self.uses: list[tuple[str, Alone]] = sorted(use for use in uses if use[0] in elsewhere)
        self.first_dense = len(self.keys) + len(self.uses)
        if self.first_dense > _WORD:
            raise InternalError(f"a space needs {self.first_dense} different options tables and kernels, {_WORD} are foreseen")
        self.dense = _distinct(value for part in tallies for value in part.dense)
        self.channels = _distinct(value for part in tallies for value in part.channels)
        self.first_channel = self.first_dense + len(self.dense)
        self.words = -(-(self.first_channel + len(self.channels)) // _WORD)
        self.columns = self.bits.start + self.words
        self._byte_sums = self._sums_of_bytes()
        self._structures: dict[int, Terms] = {}

    def _sums_of_bytes(self) -> Ints:
        """(words, bytes of a word, 256, 2): front and grids terms of the channel counts whose bits a byte holds."""
        per_bit = np.zeros((self.words * _WORD, 2), dtype=np.int64)
        for number, count in enumerate(self.channels):
            terms = zero_point_terms(int(count), 3)
            per_bit[self.first_channel + number] = terms.front + BIAS_SHAPE_BYTES, terms.quantisation
        sums = np.zeros((self.words, -(-_WORD // 8), 256, 2), dtype=np.int64)
        for word, bit in product(range(self.words), range(_WORD)):
            holds = (np.arange(256) >> (bit % 8)) & 1
            sums[word, bit // 8] += holds[:, None] * per_bit[word * _WORD + bit]
        return sums

    def mark(self, rows: Ints, at: Ints, bit: Any) -> None:
        """Sets ``bit`` (a number, or one for each of ``at``) in the rows ``at``."""
        bits = np.broadcast_to(bit, at.shape)
        for word in range(self.words):
            rows[at, self.bits.start + word] |= np.where(bits // _WORD == word, np.left_shift(1, bits % _WORD), 0)

    def _has(self, columns: Ints, bit: int) -> Ints:
        """Whether a bit is set, 0 or 1."""
        occurs: Ints = (columns[self.bits.start + bit // _WORD] >> (bit % _WORD)) & 1
        return occurs

    def keys_of(self, rows: Ints) -> int:
        """Bits of the options tables, and of the uses that are not int8 everywhere, that every one of ``rows`` (N, columns) needs."""
        return int(np.bitwise_and.reduce(rows[:, self.bits.start])) & ((1 << self.first_dense) - 1)

    def masks(self, columns: Ints) -> tuple[Ints, Ints]:
        """Which sets of options tables, and of uses that are not int8 everywhere, there are, as bits, and which of these sets each network
        of ``columns`` (columns, N) has."""
        return np.unique(columns[self.bits.start] & ((1 << self.first_dense) - 1), return_inverse=True)

    def keys_in(self, mask: int) -> frozenset[OptionKey]:
        """The options tables whose bits are set."""
        return frozenset(key for bit, key in enumerate(self.keys) if mask >> bit & 1)

    def code_bytes(self, mask: int, runtime: str, core: str | None) -> int | None:
        """Flash of the code for the operators of these options tables: :func:`tinynas.cost.code_flash.code_of`."""
        uses = [use for bit, use in enumerate(self.uses, start=len(self.keys)) if mask >> bit & 1]
        code = code_of((str(key[0]) for key in self.keys_in(mask)), runtime, core, uses)
        return None if code is None else code.total_bytes

    def structure(self, mask: int) -> Terms:
        """What depends only on which options tables there are."""
        if mask not in self._structures:
            self._structures[mask] = structure_terms(self.keys_in(mask), io="int8", flavour="full", plan=True)
        return self._structures[mask]

    def file_bytes(self, columns: Ints, sums: Sums, classes: int, formula: str, masks: Ints, inverse: Ints) -> Ints:
        """:func:`tinynas.cost.flash.file_bytes`, with a memory plan, from the merged columns (columns, N) of whole networks.

        ``masks`` and ``inverse`` are those of :meth:`masks`.
        """
        front, grids = sums.front - CODE_BYTES * sums.convolutions, sums.grids
        for word in range(self.words):
            bits = columns[self.bits.start + word]
            for byte, pairs in enumerate(self._byte_sums[word]):
                if pairs.any():
                    chosen = (bits >> (8 * byte)) & 255
                    front = front + pairs[:, 0][chosen]
                    grids = grids + pairs[:, 1][chosen]
        for number, width in enumerate(self.dense):
            occurs = self._has(columns, self.first_dense + number)
            front = front + BIAS_SHAPE_BYTES * occurs * (1 - self._convolved(columns, int(width)))
        single = zero_point_terms(1, 1)  # of fully connected layers, one of which every network has
        alone = 1 - self._convolved(columns, 1)
        shared = Terms(
            *np.array([self.structure(int(mask)) for mask in masks], dtype=np.int64).reshape(-1, len(Terms._fields)).T[:, inverse]
        )
        terms = Terms(
            front + single.front * alone + shared.front,
            grids + single.quantisation * alone + shared.quantisation,
            shared.scales,
            sums.constants + shared.constants,
            shared.houses,
            sums.spare + shared.contents,
            sums.tensors,
        )
        size_bytes: Any = total_bytes(with_contents(terms, (12 + 4 * sums.tensors, metadata_reserve(classes, formula))))
        result: Ints = size_bytes
        return result

    def _convolved(self, columns: Ints, channels: int) -> Ints:
        """Whether a convolution has so many output channels, 0 or 1."""
        at = int(np.searchsorted(self.channels, channels))
        if at == len(self.channels) or self.channels[at] != channels:
            return np.zeros(columns.shape[1], dtype=np.int64)
        return self._has(columns, self.first_channel + at)


def _distinct(values: Iterator[Any]) -> Ints:
    found = [np.unique(value) for value in values]
    return np.unique(np.concatenate(found)).astype(np.int64) if found else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class ChoiceAxis:
    """What genes choose together, one point for each way: kind, bits of weights, attention and activation of a block, the last axis of its
    table; or its kernel and dilation."""

    choices: tuple[tuple[Any, ...], ...]
    """At each point what is chosen, by name."""
    counts: tuple[int, ...]
    """How many each name offers."""
    columns: tuple[int | None, ...]
    """Gene columns by name; None where there is no choice."""

    @classmethod
    def of(cls, space: Space, *names: str) -> ChoiceAxis:
        """The axis of the genes ``names`` of ``space``."""
        offered = [space.offered(name) for name in names]
        return cls(tuple(product(*offered)), tuple(map(len, offered)), tuple(space.gene_index.get(name) for name in names))

    def __len__(self) -> int:
        return len(self.choices)

    def number(self, genes: Sequence[Any] | Ints) -> Any:
        """The point that ``genes`` choose, each a number or an array of them."""
        at: Any = 0
        for column, count in zip(self.columns, self.counts, strict=True):
            at = at * count + (0 if column is None else genes[column])
        return at


@dataclass(frozen=True, slots=True)
class StageTables:
    """Blocks of one stage, and how genes lead to their rows."""

    first: Table
    """Of the first block: (map, channels in, channels out, stride, window, expand, bits); a window is a kernel and a dilation."""
    others: tuple[Table, ...]
    """Of later blocks, the one at ``others_of[number]``: (map behind the stride, channels out, window, expand, bits)."""
    others_of: tuple[int, ...]
    """By block number: blocks of longer names make a longer file. -1 for the first block."""
    maps: Axis
    """(height, width) before it, and behind it."""
    maps_after: Axis
    channels: Axis
    """Before it, and behind it."""
    channels_after: Axis
    out_of: Ints
    """(width multiplier, out gene) -> index of the channels behind it."""
    map_of: Ints
    """(map, stride gene) -> index of the map behind it."""
    depths: Ints
    columns: tuple[int, int, int]
    """Gene columns of out, stride, depth."""
    blocks: tuple[tuple[ChoiceAxis, int], ...]
    """Of every block its windows, and the gene column of its expand ratio."""
    bits: ChoiceAxis
    """Kind; bits of expand and project (or pointwise), and of the depthwise convolutions; attention and activation: :data:`_CHOSEN`."""

    def expands(self, point: int) -> bool:
        """Whether the expand ratio counts where the blocks are those of ``point`` of :attr:`bits`."""
        return bool(self.bits.choices[point][_CHOSEN.index("kind")] == "mbconv")

    def distinct(self) -> list[int]:
        """The points of :attr:`bits`, without those that differ in what does not count: attention, where blocks are separable."""
        at = _CHOSEN.index("attention")
        first = self.bits.choices[0][at]
        return [point for point, chosen in enumerate(self.bits.choices) if self.expands(point) or chosen[at] == first]


#: What is chosen for a whole stage, by the names of its genes: the points of :attr:`StageTables.bits`.
_CHOSEN = ("kind", "weight_bits", "depthwise_bits", "attention", "act")


class Tables:
    """Every block that a space can hold, tallied for a number of classes and a runtime; see :func:`tables_of`."""

    def __init__(
        self,
        space: Space,
        classes: int,
        runtime: Runtime,
        counts: Counts | None = None,
        timing: LatencyModel | None = None,
        update: BoardUpdate | None = None,
    ) -> None:
        self.space, self.classes, self.runtime, self.counts, self.timing = space, classes, runtime, counts, timing
        self.update = update
        index = space.gene_index
        self.stem_columns = tuple(index[n] for n in ("width_mult", "stem.out", "stem.kernel", "stem.stride"))
        self.head_column = index["head.out"]
        self.stem_bits = ChoiceAxis.of(space, "stem.weight_bits")
        self.last_bits = ChoiceAxis.of(space, "head.weight_bits", "classifier_bits")
        shapes = list(dict.fromkeys(each.shape for each in space.inputs))
        self.shape_of_input = np.array([shapes.index(each.shape) for each in space.inputs])
        self.heights = np.array([height for height, _, _ in shapes])
        sizes = [(height, width) for height, width, _ in shapes]
        strides = [pair(stride) for stride in space.stem.stride]
        self.formula = self._formula()
        stem_out = self._scaled(space.stem.out)
        maps = Axis.of([_after(size, stride) for size in sizes for stride in strides])
        channels = Axis.of(stem_out.ravel().tolist())
        self.map_of_stem = np.array([[maps.index(_after(size, stride)) for stride in strides] for size in sizes])
        self.channels_of_stem = np.array([[channels.index(out) for out in row] for row in stem_out.tolist()])
        self.stem = self._stem(shapes, stem_out, strides)
        self.stages: list[StageTables] = []
        for number, stage in enumerate(space.stages):
            built = self._stage(number, stage, maps, channels)
            self.stages.append(built)
            maps, channels = built.maps_after, built.channels_after
        self.last = self._last(maps, channels)
        tables = [self.stem, self.last, *(table for stage in self.stages for table in (stage.first, *stage.others))]
        self.layout = _Layout(tables, runtime)
        for table in tables:
            table.lay_out(self.layout)

    def _formula(self) -> str:
        # The parameters of all front ends take as many bytes of a file: see metadata_reserve.
        formulas = {each.formula if each.front_end is None else f"{each.formula}|{{}}" for each in self.space.inputs}
        if len(formulas) != 1:
            raise InternalError(f"the inputs of space {self.space.name!r} have different formulas: {', '.join(sorted(formulas))}")
        return formulas.pop()

    def _scaled(self, outs: Sequence[int]) -> Ints:
        """(width multipliers, outs) channels."""
        return np.array(
            [[make_divisible(out * width, self.space.divisor) for out in outs] for width in self.space.width_mult], dtype=np.int64
        )

    def _tally(
        self,
        table: Table,
        at: Ints,
        shape: Sequence[Any],
        make: Callable[[Builder, int], int],
        *,
        reads_input: bool = False,
        last: bool = False,
    ) -> None:
        """Adds the rows ``at`` of ``table``: the operators that ``make`` puts behind a tensor of ``shape`` (integers or arrays), the
        ``last`` of a network or not."""
        if len(at):
            build = Builder(tuple(shape), causal=self.space.causal)
            output = make(build, 0)
            part = self._tallied(build, output, reads_input)
            if self.runtime.stream:
                columns = steps_of(build, len(at), self.runtime.core)
                part = replace(part, head=least_kept(columns))
                table.compiled.append((at, columns))
            elif self.runtime.frame is not None:
                columns = columns_of(build, len(at), self.runtime.core)
                part = replace(part, head=least_of(columns))
                table.compiled.append((at, columns))
            if self.update is not None:
                learned = block_of(build, output, len(at), self.update, self.runtime, first=reads_input, last=last)
                table.learned.append((at, learned))
            table.parts.append((at, part))

    def _tallied(self, build: Builder, output: int, reads_input: bool) -> Tally:
        in_front: Any = 0
        if self.space.causal and self.runtime.frame is None:  # what a file holds
            build.ops[:] = [as_same(op, build.shape(op.inputs[0])) for op in build.ops]
        elif self.space.causal:  # loops are counted for SAME
            in_front = sum((op.padding.top > 0) * 1 for op in build.ops if isinstance(op, WINDOWED))
        part = tally(build, output, self.runtime, reads_input=reads_input, counts=self.counts, timing=self.timing)
        sums = part.sums._replace(uncounted=part.sums.uncounted + in_front, untimed=part.sums.untimed + in_front)
        return replace(part, sums=sums)

    def _alike(self, maps: Axis) -> list[Ints]:
        """The numbers of ``maps`` whose operators have one kernel: a file of a causal network has others for other heights."""
        heights = np.array([height for height, _ in maps.values])
        if not self.space.causal:
            return [np.arange(len(maps))]
        return [np.flatnonzero(heights == height) for height in np.unique(heights)]

    def _stem(self, shapes: Sequence[tuple[int, int, int]], outs: Ints, strides: Sequence[tuple[int, int]]) -> Table:
        """(shape of the input, width multiplier, out, kernel, stride, bits)."""
        space = self.space
        table = Table((len(shapes), *outs.shape, len(space.stem.kernel), len(strides), len(self.stem_bits)))
        rows = np.arange(table.size).reshape(table.counts)
        width, out = np.indices(outs.shape).reshape(2, -1)
        for (i, shape), (k, kernel), (s, stride), (b, (bits,)) in product(
            enumerate(shapes), enumerate(space.stem.kernel), enumerate(strides), enumerate(self.stem_bits.choices)
        ):

            def stem(build: Builder, x: int, kernel: Any = kernel, stride: Any = stride, bits: WeightBits = bits) -> int:
                channels: Any = outs[width, out]
                return build.conv("stem", x, channels, pair(kernel), stride, space.act, bits)

            self._tally(table, rows[i, width, out, k, s, b], shape, stem, reads_input=True)
        return table

    def _stage(self, number: int, stage: StageSpace, maps: Axis, channels: Axis) -> StageTables:
        index = self.space.gene_index
        outs = self._scaled(stage.out)
        after = Axis.of(outs.ravel().tolist())
        strides = [pair(stride) for stride in stage.stride]
        maps_after = Axis.of([_after(size, stride) for size in maps.values for stride in strides])
        bits = ChoiceAxis.of(self.space, *(f"s{number}.{name}" for name in _CHOSEN))
        lengths = list(dict.fromkeys(len(str(block)) for block in range(1, max(stage.depth))))
        windows = [
            ChoiceAxis(
                tuple(stage.windows(b)),
                (len(stage.kernel), len(stage.dilations(b))),
                (index[f"s{number}.b{b}.kernel"], index.get(f"s{number}.b{b}.dilation")),
            )
            for b in range(max(stage.depth))
        ]
        first = Table((len(maps), len(channels), len(after), len(strides), len(windows[0]), len(stage.expand), len(bits)))
        self._blocks(first, f"s{number}.b0", stage, windows[0], maps, channels, after, strides, bits)
        others = []
        for length in lengths:
            other = Table((len(maps_after), len(after), len(windows[1]), len(stage.expand), len(bits)))
            self._blocks(other, f"s{number}.b{10 ** (length - 1)}", stage, windows[1], maps_after, None, after, [(1, 1)], bits)
            others.append(other)
        return StageTables(
            first=first,
            others=tuple(others),
            others_of=(-1, *(lengths.index(len(str(block))) for block in range(1, max(stage.depth)))),
            maps=maps,
            maps_after=maps_after,
            channels=channels,
            channels_after=after,
            out_of=np.array([[after.index(out) for out in row] for row in outs.tolist()]),
            map_of=np.array([[maps_after.index(_after(size, stride)) for stride in strides] for size in maps.values]),
            depths=np.array(stage.depth, dtype=np.int64),
            columns=(index[f"s{number}.out"], index[f"s{number}.stride"], index[f"s{number}.depth"]),
            blocks=tuple((axis, index[f"s{number}.b{b}.expand"]) for b, axis in enumerate(windows)),
            bits=bits,
        )

    def _blocks(
        self,
        table: Table,
        name: str,
        stage: StageSpace,
        windows: ChoiceAxis,
        maps: Axis,
        channels: Axis | None,
        after: Axis,
        strides: Sequence[tuple[int, int]],
        bits: ChoiceAxis,
    ) -> None:
        """Blocks at every point: one lowering for each structure, over arrays of sizes.

        Without ``channels`` the blocks are later ones, which have as many channels before as behind them.
        """
        rows = np.arange(table.size).reshape(len(maps), -1, len(after), len(strides), len(windows), len(stage.expand), len(bits))
        if channels is None:
            rows = rows.reshape(len(maps), len(after), 1, 1, len(windows), len(stage.expand), len(bits))
        height, width = np.array(maps.values).T
        before, behind = np.array((after if channels is None else channels).values), np.array(after.values)
        expands = np.array(stage.expand, dtype=np.float64)
        plain = np.flatnonzero(expands == 1)
        wide = np.flatnonzero(expands != 1)
        every = np.arange(len(expands))
        alike = self._alike(maps)
        for (s, stride), (k, (kernel, dilation)), chosen, (b, (kind, weight_bits, depthwise_bits, attention, act)), these in product(
            enumerate(strides), enumerate(windows.choices), (plain, wide, every), enumerate(bits.choices), alike
        ):
            if (kind == "separable") != (chosen is every):
                continue
            m, i, o, e = (
                axis.ravel() for axis in np.meshgrid(these, *map(np.arange, rows.shape[1:3]), np.arange(len(chosen)), indexing="ij")
            )
            e = chosen[e]
            tall: Any = int(height[these[0]]) if self.space.causal else height[m]
            inside = before[i]
            out: Any = behind[i if channels is None else o]
            if kind == "separable":
                plainly = SeparableSizes(pair(kernel), stride, act, out, weight_bits, depthwise_bits, pair(dilation))

                def separables(build: Builder, x: int, block: SeparableSizes = plainly) -> int:
                    return separable(build, name, x, block)

                self._tally(table, rows[m, i, o, s, k, e, b], (tall, width[m], inside), separables)
                continue
            adds = (inside == out) & (stride == (1, 1))
            for residual in (False, True):
                here = adds == residual
                # numpy's rint is half to even as Python's round: the same as tinynas.graph.mid_channels.
                mid = np.maximum(1, np.rint(inside * expands[e])).astype(np.int64) if chosen is wide else inside
                sizes = mid[here], out[here]
                block = MBSizes(
                    pair(kernel),
                    stride,
                    chosen is wide,
                    residual,
                    act,
                    *sizes,
                    weight_bits,
                    depthwise_bits,
                    attention,
                    dilation=pair(dilation),
                )

                def blocks(build: Builder, x: int, block: MBSizes = block) -> int:
                    return mbconv(build, name, x, block)

                down = tall if self.space.causal else tall[here]
                self._tally(table, rows[m, i, o, s, k, e, b][here], (down, width[m][here], inside[here]), blocks)

    def _last(self, maps: Axis, channels: Axis) -> Table:
        """(map, channels in, width multiplier, head, bits): last convolution, global pooling, classifier."""
        space = self.space
        heads = np.array(
            [[make_divisible(out * width, space.divisor) if out else 0 for out in space.head.out] for width in space.width_mult]
        )
        table = Table((len(maps), len(channels), *heads.shape, len(self.last_bits)))
        rows = np.arange(table.size).reshape(-1, len(self.last_bits))
        m, i, w, h = np.indices(table.counts[:-1]).reshape(4, -1)
        height, width = np.array(maps.values).T
        head = heads[w, h]
        for present, (b, (head_bits, classifier_bits)) in product((False, True), enumerate(self.last_bits.choices)):
            here = (head > 0) == present

            def last(
                build: Builder,
                x: int,
                present: bool = present,
                here: Any = here,
                head_bits: WeightBits = head_bits,
                classifier_bits: WeightBits = classifier_bits,
            ) -> int:
                if present:
                    x = build.conv("head", x, head[here], (1, 1), (1, 1), space.act, head_bits)
                return classifier(build, x, self.classes, classifier_bits)

            shape = (height[m][here], width[m][here], np.array(channels.values)[i][here])
            self._tally(table, rows[here, b], shape, last, last=True)
        return table

    # what counting needs ----------------------------------------------------------------------------

    def additive(self, name: str, rows: Ints) -> Ints:
        """The part of cost ``name`` (``flash_bytes`` or ``macs``) that each of ``rows`` (N, columns) is sure to bring into a network."""
        sums = _sums(rows.T)
        if name == "macs":
            return np.asarray(sums.dense + sums.pointwise + sums.depthwise + sums.connected)
        if name != "flash_bytes":
            raise InternalError(f"{name} is not known as a sum over blocks")
        # In a file also the entries of the memory plan, 4 B a tensor.
        own = Terms(sums.front - CODE_BYTES * sums.convolutions, sums.grids, 0, sums.constants + 4 * sums.tensors, 0, sums.spare, 0)
        return np.asarray(flash_bytes(self.runtime, additive_bytes(own), sums.weights_bytes, sums.biases))

    def _common(self) -> int:
        """Bits of the options tables that every network needs."""
        return self.layout.keys_of(self.stem.rows[:-1]) | self.layout.keys_of(self.last.rows[:-1])

    def base_code_bytes(self, core: str | None) -> int:
        """Flash of the code that every network needs, with whichever kernels take least; 0 where that is not known."""
        common, layout = self._common(), self.layout
        free = [1 << bit for bit in range(len(layout.keys), layout.first_dense) if not common >> bit & 1]
        masks = [common | sum(chosen) for count in range(len(free) + 1) for chosen in combinations(free, count)]
        return min(layout.code_bytes(mask, self.runtime.name, core) or 0 for mask in masks)

    def base_bytes(self) -> int:
        """Bytes that the file of every network has beside what its blocks bring: header, metadata, the tables that all need."""
        if self.runtime.flash != "file":
            return 0
        mask = self._common()
        contents = with_contents(self.layout.structure(mask), (12, metadata_reserve(self.classes, self.formula)))
        return additive_bytes(contents)

    def head_of(self, rows: Ints) -> Ints:
        """Bytes alive while the operators of each of ``rows`` run."""
        return np.asarray(rows[:, self.layout.head])


def _after(size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """The map behind a SAME window."""
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])


def _check_streams(space: Space, runtime: str) -> None:
    """Raise UserError where networks of ``space`` cannot be streamed."""
    if not space.causal:
        raise UserError(
            f"{runtime} takes networks that read no frame that is yet to come; those of space {space.name!r} do",
            "give the space causal: true (--set space.causal=true)",
        )
    period = math.prod(max(pair(stride)[0] for stride in offered) for offered in (space.stem.stride, *(s.stride for s in space.stages)))
    if period > MAX_PERIOD:
        raise UserError(
            f"strides along time of space {space.name!r} make up to {period:,} frames one step",
            f"offer no more than {MAX_PERIOD:,} together",
        )


@lru_cache(maxsize=8)
def tables_of(
    space: Space,
    classes: int,
    runtime: str,
    core: str | None = None,
    timing: LatencyModel | None = None,
    update: BoardUpdate | None = None,
) -> Tables:
    """The tables of ``space``, made once in a process. Raises UserError for an unknown runtime and a space of too many blocks."""
    return Tables(space, classes, runtime_named(runtime, core), counts_of(core, runtime), timing, update)


class BatchEstimator:
    """Costs of genotypes of ``space`` on ``runtime``, many at once.

    ``estimate`` takes an (N, number of genes) integer array of choice indices and returns arrays of N; inactive
    genes do not matter. The figures equal ``tinynas.cost.estimate(lower(space.decode(genotype, classes)))``, those of the front ends
    that the networks of a space of sounds read included.
    """

    def __init__(
        self,
        space: Space,
        classes: int,
        runtime: str = "tflm",
        core: str | None = None,
        clock_mhz: float | None = None,
        timing: LatencyModel | None = None,
        update: BoardUpdate | None = None,
    ) -> None:
        if runtime_named(runtime).stream:
            _check_streams(space, runtime)
        self.space = space
        self.classes = classes
        self.latency = None if clock_mhz is None else timing or latency_model(core, runtime)
        self.tables = tables_of(space, classes, runtime, core, self.latency, update)
        self.runtime = self.tables.runtime
        self.core, self.clock_mhz = core, clock_mhz
        self._genes = len(space.genes)
        self._choices = np.array([len(gene.choices) for gene in space.genes], dtype=np.int64)

    def estimate(self, genotypes: npt.ArrayLike) -> BatchCost:
        """Costs of the (N, genes) ``genotypes``. Raises UserError for an array that is no genotype of the space."""
        genes = np.asarray(genotypes)
        if genes.ndim != 2 or genes.shape[1] != self._genes or not np.issubdtype(genes.dtype, np.integer):
            raise UserError(f"genotypes must be an integer array of shape (N, {self._genes}), not {genes.dtype} {genes.shape}")
        if genes.size and (int(genes.min()) < 0 or bool((genes.max(axis=0) >= self._choices).any())):
            raise UserError("a genotype holds an index outside its gene's choices")
        parts = [self._chunk(genes[at : at + CHUNK]) for at in range(0, len(genes), CHUNK)] or [self._chunk(genes)]
        joined: Any = [np.concatenate(columns) for columns in zip(*[_fields(part) for part in parts], strict=True)]
        known = len(joined) - len(Figures._fields)
        cost = parts[0] if len(parts) == 1 else BatchCost(*[*joined[:known], Figures(*joined[known:])])
        front_ends = [each.front_end for each in self.space.inputs if each.front_end is not None]
        if not front_ends:
            return cost
        which = self.space.input_number(genes.T.astype(np.int64))
        return with_front_ends(
            cost,
            front_ends,
            which,
            self.classes,
            core=self.core,
            clock_mhz=self.clock_mhz,
            timing=self.latency,
            runtime=self.runtime.name,
        )

    def _chunk(self, genes: npt.NDArray[Any]) -> BatchCost:
        tables = self.tables
        columns = np.ascontiguousarray(genes.T).astype(np.int64)
        shape = tables.shape_of_input[self.space.input_number(columns)]
        outer = [shape, *(columns[c] for c in tables.stem_columns), tables.stem_bits.number(columns)]
        _, width, stem_out, _, stride, _ = outer
        merged = _Merged(_rows(tables.stem, outer), tables.layout)
        if tables.update is not None:
            merged.learned.append(_learned(tables.stem, outer))
        if self.runtime.frame is not None:
            merged.heights = tables.heights[shape]
            merged.operators.append(_operators(tables.stem, outer))
        at = tables.map_of_stem[shape, stride]
        inside = tables.channels_of_stem[width, stem_out]
        for stage in tables.stages:
            out_column, stride_column, depth_column = stage.columns
            out = stage.out_of[width, columns[out_column]]
            step = columns[stride_column]
            depth = stage.depths[columns[depth_column]]
            after = stage.map_of[at, step]
            bits = stage.bits.number(columns)
            least = int(stage.depths.min())
            for number, (windows, expand_column) in enumerate(stage.blocks):
                window, expand = windows.number(columns), columns[expand_column]
                if number == 0:
                    merged.add_block(stage.first, (at, inside, out, step, window, expand, bits))
                    continue
                table = stage.others[stage.others_of[number]]
                merged.add_block(table, (after, out, window, expand, bits), None if number < least else depth > number)
            at, inside = after, out
        merged.add_block(tables.last, (at, inside, width, columns[tables.head_column], tables.last_bits.number(columns)))
        return self._costs(merged)

    def _costs(self, merged: _Merged) -> BatchCost:
        columns = np.ascontiguousarray(merged.total.T)
        runtime, sums = self.runtime, _sums(columns)
        layout = self.tables.layout
        head = columns[layout.head] + runtime.extra_bytes
        if layout.buffers:
            head = head + columns[layout.head + 2] + columns[layout.head + 3]
        tail, sram = np.zeros_like(head), head
        for number, (_, build) in enumerate(runtime.builds):
            family, kept = FAMILY_OF[build], columns[layout.kept[number]]
            structures, handles = kept >> _BITS_EACH, kept & _MASK
            options: Any = merged.options[number]
            taken = LAYOUTS[family], sums.operators, sums.tensors, options
            first = kernel_structure("conv", build)  # of the stem
            opened = assemble(*taken, structures + sums.arrays, handles, first=first)
            # Every operator writes one tensor, and there is the input.
            setup = planning_bytes(family, sums.tensors, handles, sums.operators + 1 + handles, opened)
            own = with_ends(LAYOUTS[family], opened)
            prepared = preparing_bytes(family, assemble(*taken, structures, 0, first=first), columns[layout.prepared[number]])
            needed = aligned(np.maximum(np.maximum(head + own, setup), prepared))
            tail = np.where(needed > sram, own, tail)
            sram = np.maximum(sram, needed)
        if self.latency is None or self.clock_mhz is None:
            latency = np.full(len(head), np.nan)
        else:
            latency = np.where(sums.untimed, np.nan, self.latency.ms(sums.cycles, self.clock_mhz))
        masks, inverse = layout.masks(columns)
        size_bytes: Any = (
            layout.file_bytes(columns, sums, self.classes, self.tables.formula, masks, inverse) if runtime.flash == "file" else 0
        )
        codes = [layout.code_bytes(int(mask), runtime.name, self.core) for mask in masks]
        code_bytes: Ints | Floats = np.array([math.nan if code is None else code for code in codes], dtype=np.float64)
        if None not in codes:
            code_bytes = code_bytes.astype(np.int64)
        stack: Ints | Floats = np.full(len(head), np.nan)
        counted = self.tables.counts
        if runtime.frame is not None and merged.heights is not None:
            outputs = -(-self.classes // 4) * 4
            if runtime.stream:
                many = many_streams(merged.operators, outputs, self.core)
                latency, counted = np.full(len(head), np.nan), None
            else:
                many = many_compiled(merged.operators, outputs, merged.heights, runtime.frame, self.core)
            sram = head = many.work
            size_bytes = many.flash
            stack = many.stack
        update: Ints | Floats = np.full(len(head), np.nan)
        if self.tables.update is not None:
            alive = live_of(merged.learned, self.tables.update, self.classes)
            update = np.maximum(sram, aligned(alive + tail))
        return BatchCost(
            macs=sums.dense + sums.pointwise + sums.depthwise + sums.connected,
            params=sums.weights + sums.biases,
            weights_bytes=sums.weights_bytes,
            flash_bytes=np.asarray(flash_bytes(runtime, size_bytes, sums.weights_bytes, sums.biases)),
            sram_bytes=sram,
            head_bytes=head,
            tail_bytes=tail,
            latency_ms=latency,
            instructions=np.full(len(head), np.nan)
            if counted is None
            else np.where(sums.uncounted, np.nan, sums.instructions.astype(np.float64)),
            code_bytes=code_bytes[inverse],
            stack_bytes=stack,
            update_sram_bytes=update,
            anatomy=figures_of(Anatomy(sums.layers, sums.activations, sums.log_macs, columns[layout.narrowing])),
        )


class _Merged:
    """Networks put together row by row, in execution order."""

    def __init__(self, rows: Ints, layout: _Layout) -> None:
        self.total, self.layout = rows, layout
        self.options = [rows[:, column] & _MASK for column in layout.options]
        """Bytes of parsed options, by build; the first starts on an alignment."""
        self.operators: list[Ints] = []
        """For compiled code: (N, operators, columns) of each block."""
        self.heights: Ints | None = None
        """For compiled code: (N,) of the inputs."""
        self.learned: list[tuple[Ints, Ints]] = []
        """Where learning is counted: layers and rows of each block, as :func:`tinynas.cost.update_batch.live_of` takes them."""

    def add_block(self, table: Table, indices: Sequence[Ints], where: npt.NDArray[np.bool_] | None = None) -> None:
        """The next block of each network, from a table; none where ``where`` is False."""
        self.add(_rows(table, indices, where))
        if self.heights is not None:
            self.operators.append(_operators(table, indices, where))
        if self.learned:
            self.learned.append(_learned(table, indices, where))

    def add(self, rows: Ints) -> None:
        """The next block of each network."""
        for options, column in zip(self.options, self.layout.options, strict=True):
            options += (rows[:, column] >> ((options & (STARTS - 1)) * _BITS_EACH)) & _MASK
        total, summed, most, bits = self.total, self.layout.summed, self.layout.maximised, self.layout.bits
        for kept, column in zip(self.layout.kept, self.layout.prepared, strict=True):
            before = total[:, _ARRAYS] + _REQUEST * (total[:, kept] & _MASK)
            np.maximum(total[:, column], before + rows[:, column], out=total[:, column])
        total[:, summed] += rows[:, summed]
        np.maximum(total[:, most], rows[:, most], out=total[:, most])
        np.bitwise_or(total[:, bits], rows[:, bits], out=total[:, bits])


def _rows(table: Table, indices: Sequence[Ints], where: npt.NDArray[np.bool_] | None = None) -> Ints:
    """Rows of ``table`` at ``indices``, the row of zeros where ``where`` is False."""
    return table.rows.take(_numbers(table, indices, where), axis=0)


def _operators(table: Table, indices: Sequence[Ints], where: npt.NDArray[np.bool_] | None = None) -> Ints:
    """:func:`_rows` of the columns of operators."""
    return table.operators.take(_numbers(table, indices, where), axis=0)


def _learned(table: Table, indices: Sequence[Ints], where: npt.NDArray[np.bool_] | None = None) -> tuple[Ints, Ints]:
    """What learning takes in blocks: :func:`_rows` of layers and of the columns of updates."""
    numbers = _numbers(table, indices, where)
    return table.layers.take(numbers), table.updates.take(numbers, axis=0)


def _numbers(table: Table, indices: Sequence[Ints], where: npt.NDArray[np.bool_] | None) -> Ints:
    at = indices[0]
    for count, index in zip(table.counts[1:], indices[1:], strict=True):
        if count > 1:
            at = at * count + index
    if where is not None:
        at = np.where(where, at, table.size)
    return at


def with_front_ends(
    cost: BatchCost,
    front_ends: Sequence[FrontEnd],
    which: Ints,
    classes: int,
    *,
    core: str | None = None,
    clock_mhz: float | None = None,
    timing: LatencyModel | None = None,
    runtime: str = "tflm",
) -> BatchCost:
    """``cost`` of networks of ``classes`` on ``runtime``, beside it that of the front end that each reads: number ``which`` of
    ``front_ends``."""
    row = runtime_named(runtime)
    on: dict[str, Any] = {"core": core, "clock_mhz": clock_mhz, "timing": timing, "compiled": row.frame is not None}
    costs = [front_end_cost(each, classes, **on, every=1 if row.stream else None) for each in front_ends]  # how often changes no array
    return replace(cost, front_end=FrontEndCosts.of(costs).take(which))


def _fields(cost: BatchCost) -> list[npt.NDArray[Any]]:
    return [
        cost.macs,
        cost.params,
        cost.weights_bytes,
        cost.flash_bytes,
        cost.sram_bytes,
        cost.head_bytes,
        cost.tail_bytes,
        cost.latency_ms,
        cost.instructions,
        cost.code_bytes,
        cost.stack_bytes,
        cost.update_sram_bytes,
        *cost.anatomy,
    ]
