"""BatchEstimator: the costs of many genotypes of a space at once, in numpy, with the numbers of ``estimate``.

The cost of a block depends on few things (map size, channels in and out, stride, kernel, expand ratio), so every
block that a space can hold is costed once, in a table; a network is then one table row per block, summed (or, for
memory, maximised). Nothing is approximated: the tests compare with ``estimate`` network by network. The memory of
the TFLM runtimes is that of the offline plan, which reaches the live-bytes bound for every network of a space
(see :func:`tinynas.cost.memory.plan_offline`), so the exact planner costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.arch import Activation
from tinynas.cost.flash import (
    OptionKey,
    Terms,
    activation_terms,
    constant_bytes,
    houses_table,
    mean_terms,
    metadata_reserve,
    shape_bytes,
    structure_terms,
    total_bytes,
    weighted_terms,
)
from tinynas.cost.latency import latency_model
from tinynas.cost.runtimes import Runtime, runtime_named
from tinynas.cost.tail import CMSIS_EXTRA_BYTES, LAYOUTS
from tinynas.errors import UserError
from tinynas.space import Space, StageSpace, make_divisible

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Bytes of an operator's entry, table and list of one output in the file; see :mod:`tinynas.cost.flash`.
OPERATOR_BYTES = 36
#: Networks costed at a time: small enough that the working arrays stay in the processor's cache.
CHUNK = 4096
#: A table of more rows than this would not pay; the space is refused with the advice to restrict it.
MAX_ROWS = 4_000_000

# Columns of the block tables. Summed over a network's blocks:
_DENSE, _POINTWISE, _DEPTHWISE, _CONNECTED, _WEIGHTS, _CHANNELS, _CONVS, _ADDS, _MULTIPLIERS, _HANDLES, _STATIC = range(11)
# ... of which the last four are the terms of :mod:`tinynas.cost.flash` (spare: contents less houses),
_FRONT, _GRIDS, _CONSTANTS, _SPARE = range(11, 15)
# maximised,
_PEAK, _BUFFER = 15, 16
# and united: bits of the options tables that the file needs, then of the channel counts that occur.
_KEYS = 17
_SUMMED, _BITS = slice(0, 15), slice(17, None)
_MAXIMISED = slice(15, 17)
#: Bits a word; the sign bit is left alone.
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

    def __len__(self) -> int:
        return len(self.macs)

    def values(self, index: int) -> dict[str, float | None]:
        """The figures of network ``index``, as :meth:`tinynas.cost.Cost.values` gives them."""
        latency = float(self.latency_ms[index])
        return {
            "macs": int(self.macs[index]),
            "params": int(self.params[index]),
            "weights_bytes": int(self.weights_bytes[index]),
            "flash_bytes": int(self.flash_bytes[index]),
            "sram_bytes": int(self.sram_bytes[index]),
            "latency_ms": None if np.isnan(latency) else latency,
        }

    def column(self, name: str) -> npt.NDArray[Any]:
        """The array called ``name`` (``macs``, ``sram_bytes``, ...)."""
        array: npt.NDArray[Any] = getattr(self, name)
        return array


@dataclass(frozen=True, slots=True)
class _Axis:
    """Distinct values that a quantity can take, and an index into them."""

    values: Ints

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> _Axis:
        return cls(np.unique(values).astype(np.int64))

    def __len__(self) -> int:
        return len(self.values)

    def index(self, values: npt.NDArray[Any]) -> Ints:
        return np.searchsorted(self.values, values).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Stage:
    first: Ints
    """Rows of a first block: (map, in, out, stride, kernel, expand) row-major, for each number of digits; then the zero row."""
    other: Ints
    """Rows of a later block: (map after the stride, out, kernel, expand), for each number of digits; then the zero row."""
    out_of: Ints
    """(width multiplier, out gene) -> index of the out channels."""
    map_of: Ints
    """(map index, stride gene) -> index of the map after the stride."""
    residual_first: Ints
    """(in, out, stride) -> 1 where the first block has a residual."""
    counts: tuple[int, int, int, int, int, int]
    depths: Ints
    columns: tuple[int, int, int]
    """Gene columns of out, stride, depth."""
    blocks: tuple[tuple[int, int], ...]
    """Gene columns of (kernel, expand) of every block."""


class BatchEstimator:
    """Costs of genotypes of ``space`` on ``runtime``, many at once.

    ``estimate`` takes an (N, number of genes) integer array of choice indices and returns arrays of N; inactive
    genes do not matter. The figures equal ``tinynas.cost.estimate(lower(space.decode(genotype, classes)))``.
    """

    def __init__(self, space: Space, classes: int, runtime: str = "tflm", core: str | None = None, clock_mhz: float | None = None) -> None:
        self.space = space
        self.classes = classes
        self.runtime = runtime_named(runtime)
        self.clock_mhz = clock_mhz
        self.latency = None if clock_mhz is None else latency_model(core, runtime)
        self._genes = len(space.genes)
        self._choices = np.array([len(gene.choices) for gene in space.genes], dtype=np.int64)
        self._build()

    # tables -----------------------------------------------------------------------------------------

    def _build(self) -> None:
        space, index = self.space, self.space.gene_index
        widths = np.array(space.width_mult, dtype=np.float64)
        self._head_columns = tuple(index[n] for n in ("resolution", "color", "width_mult", "stem.out", "stem.kernel", "stem.stride"))
        stem_out = _scaled(widths, space.stem.out, space.divisor)
        sides = np.array(space.resolution, dtype=np.int64)
        colours = np.array([3 if c == "rgb" else 1 for c in space.color], dtype=np.int64)
        kernels = np.array(space.stem.kernel, dtype=np.int64)
        strides = np.array(space.stem.stride, dtype=np.int64)
        self._make = _Makes(self.runtime, space)

        side, colour, width, out, kernel, stride = np.ix_(
            sides, colours, np.arange(len(widths)), np.arange(len(space.stem.out)), kernels, strides
        )
        channels = stem_out[width, out]
        after = -(-side // stride)
        rows = self._make.rows(side, colour, width, out, kernel, stride)
        rows.terms(activation_terms(len("input"), full=True))
        rows.shape(3)
        rows.conv("stem", after, colour, channels, kernel, stride=stride, act=space.act)
        rows.output("stem", times_shape=(channels != colour) | (after != side))
        rows.live(side * side * colour, after * after * channels, scratch=_conv_scratch(self.runtime, kernel, colour))
        self._stem = rows.table()
        self._stem_counts = (len(sides), len(colours), len(widths), len(space.stem.out), len(kernels), len(strides))

        maps = _Axis.of(-(-sides[:, None] // strides[None, :]))
        ins = _Axis.of(stem_out)
        self._map_of_stem = maps.index(-(-sides[:, None] // strides[None, :]))
        self._channels_of_stem = ins.index(stem_out)
        self._stages: list[_Stage] = []
        for number, stage in enumerate(space.stages):
            built, maps, ins = self._stage(number, stage, maps, ins, widths)
            self._stages.append(built)

        self._head_column = index["head.out"]
        heads = np.array(
            [[make_divisible(o * w, space.divisor) if o else 0 for o in space.head.out] for w in space.width_mult], dtype=np.int64
        )
        side, inside, width, out = np.ix_(maps.values, ins.values, np.arange(len(widths)), np.arange(len(space.head.out)))
        head = heads[width, out]
        has_head = (head > 0).astype(np.int64)
        last = np.where(head > 0, head, inside)
        rows = self._make.rows(side, inside, width, out)
        rows.conv("head", side, inside, head, np.asarray(1), act=space.act, times=has_head)
        rows.output("head", times_shape=head != inside, times=has_head)
        rows.live(side * side * inside, side * side * head, times=has_head)
        rows.mean("pool", last)
        rows.live(
            side * side * last, last, scratch=0 if self.runtime.scratch == "none" else _aligned(4 * last) + _aligned(16) + _aligned(8)
        )
        rows.connected("fc", "logits", last, self.classes)
        rows.live(last, np.asarray(self.classes))
        self._last = rows.table()
        self._last_counts = (len(maps), len(ins), len(widths), len(space.head.out))
        self._head_given = (heads > 0).astype(np.int64)

    def _stage(self, number: int, stage: StageSpace, maps: _Axis, channels: _Axis, widths: Floats) -> tuple[_Stage, _Axis, _Axis]:
        space, index = self.space, self.space.gene_index
        outs = _scaled(widths, stage.out, space.divisor)
        out_axis = _Axis.of(outs)
        strides = np.array(stage.stride, dtype=np.int64)
        kernels = np.array(stage.kernel, dtype=np.int64)
        expands = np.array(stage.expand, dtype=np.float64)
        shrunk = -(-maps.values[:, None] // strides[None, :])
        next_maps = _Axis.of(shrunk)
        counts = (len(maps), len(channels), len(out_axis), len(strides), len(kernels), len(expands))
        if np.prod(counts, dtype=np.float64) > MAX_ROWS:
            raise UserError(f"stage {number} of space {space.name!r} offers too many different blocks to tabulate", "offer fewer choices")
        axes = np.ix_(maps.values, channels.values, out_axis.values, strides, kernels, expands)
        first = self._make.blocks(space.act, *axes)
        side, out, kernel, expand = np.ix_(next_maps.values, out_axis.values, kernels, expands)
        other = self._make.blocks(space.act, side, out, out, np.asarray(1), kernel, expand)
        inside, out, stride = np.ix_(channels.values, out_axis.values, strides)
        built = _Stage(
            first=first,
            other=other,
            out_of=out_axis.index(outs),
            map_of=next_maps.index(shrunk),
            residual_first=((inside == out) & (stride == 1)).astype(np.int64),
            counts=counts,
            depths=np.array(stage.depth, dtype=np.int64),
            columns=(index[f"s{number}.out"], index[f"s{number}.stride"], index[f"s{number}.depth"]),
            blocks=tuple((index[f"s{number}.b{b}.kernel"], index[f"s{number}.b{b}.expand"]) for b in range(max(stage.depth))),
        )
        return built, next_maps, out_axis

    # networks ---------------------------------------------------------------------------------------

    def estimate(self, genotypes: npt.ArrayLike) -> BatchCost:
        """Costs of the (N, genes) ``genotypes``. Raises UserError for an array that is no genotype of the space."""
        genes = np.asarray(genotypes)
        if genes.ndim != 2 or genes.shape[1] != self._genes or not np.issubdtype(genes.dtype, np.integer):
            raise UserError(f"genotypes must be an integer array of shape (N, {self._genes}), not {genes.dtype} {genes.shape}")
        if genes.size and (int(genes.min()) < 0 or bool((genes.max(axis=0) >= self._choices).any())):
            raise UserError("a genotype holds an index outside its gene's choices")
        parts = [self._chunk(genes[at : at + CHUNK]) for at in range(0, len(genes), CHUNK)] or [self._chunk(genes)]
        if len(parts) == 1:
            return parts[0]
        return BatchCost(*[np.concatenate(columns) for columns in zip(*[_fields(part) for part in parts], strict=True)])

    def _chunk(self, genes: npt.NDArray[Any]) -> BatchCost:
        columns = np.ascontiguousarray(genes.T).astype(np.int64)
        side, colour, width, stem_out, kernel, stride = (columns[c] for c in self._head_columns)
        _, c1, c2, c3, c4, c5 = self._stem_counts
        rows = self._stem.take(((((side * c1 + colour) * c2 + width) * c3 + stem_out) * c4 + kernel) * c5 + stride, axis=0)
        total = rows
        at = self._map_of_stem[side, stride]
        inside = self._channels_of_stem[width, stem_out]
        last_adds = np.zeros(len(side), dtype=np.int64)
        blocks = np.zeros(len(side), dtype=np.int64)
        digits = self._make.digits
        for stage in self._stages:
            _, n_in, n_out, n_stride, n_kernel, n_expand = stage.counts
            out_column, stride_column, depth_column = stage.columns
            out = stage.out_of[width, columns[out_column]]
            step = columns[stride_column]
            depth = stage.depths[columns[depth_column]]
            next_map = stage.map_of[at, step]
            base = (next_map * n_out + out) * n_kernel
            zero, least = len(stage.other) - 1, int(stage.depths.min())
            for number, (kernel_column, expand_column) in enumerate(stage.blocks):
                if number == 0:
                    row = (((at * n_in + inside) * n_out + out) * n_stride + step) * n_kernel + columns[kernel_column]
                else:
                    row = base + columns[kernel_column]
                row = row * n_expand + columns[expand_column]
                if len(digits) > 1:
                    row = row * len(digits) + np.searchsorted(digits[1:], blocks + number, side="right")
                if number == 0:
                    rows = stage.first.take(row, axis=0)
                else:
                    rows = stage.other.take(np.where(depth > number, row, zero) if number >= least else row, axis=0)
                _merge(total, rows)
            blocks += depth
            last_adds = np.where(depth > 1, 1, stage.residual_first[inside, out, step])
            at, inside = next_map, out
        _, n_in, n_width, n_head = self._last_counts
        head = columns[self._head_column]
        _merge(total, self._last.take(((at * n_in + inside) * n_width + width) * n_head + head, axis=0))
        return self._costs(total, last_adds * (1 - self._head_given[width, head]))

    def _costs(self, total: Ints, ends_in_add: Ints) -> BatchCost:
        columns = np.ascontiguousarray(total.T)
        dense, pointwise, depthwise, connected, weights, channels, convs, adds, multipliers, handles, static = columns[:_FRONT]
        peak = columns[_PEAK] + columns[_BUFFER] + static + self.runtime.extra_bytes
        weights_bytes = weights + 4 * channels
        tail = self._tail(convs, adds, multipliers, handles, ends_in_add)
        if self.latency is None or self.clock_mhz is None:
            latency = np.full(len(peak), np.nan)
        else:
            a, b, c, d = self.latency.cycles
            latency = (dense * a + pointwise * b + depthwise * c + connected * d) / (1000.0 * self.clock_mhz)
        if self.runtime.flash == "file":
            flash = self._make.file_bytes(columns, 2 * convs + convs + adds + 6, self.classes)
        else:
            flash = weights_bytes + 4 * channels if self.runtime.flash == "weights and scales" else weights_bytes
        return BatchCost(
            macs=dense + pointwise + depthwise + connected,
            params=weights + channels,
            weights_bytes=weights_bytes,
            flash_bytes=flash,
            sram_bytes=peak + tail,
            head_bytes=peak,
            tail_bytes=tail,
            latency_ms=latency,
        )

    def _tail(self, convs: Ints, adds: Ints, multipliers: Ints, handles: Ints, ends_in_add: Ints) -> Ints:
        """:func:`tinynas.cost.tail.tail_bytes` for a chain of convolutions and adds closed by MEAN and FULLY_CONNECTED."""
        if not self.runtime.tail:
            return np.zeros_like(convs)
        layout = LAYOUTS["mcu"]
        operators = convs + adds + 2
        # Tensors: one output an operator, the input, weights and biases, the axes of MEAN.
        tensors = operators + 1 + 2 * (convs + 1) + 1
        used = layout.fixed + layout.eval_tensor * tensors + layout.node * operators
        # An add's options (2 B) are padded to 4 by the convolution that follows; before MEAN (1 B) they share its padding.
        conv_options, dense_options = layout.options["conv"][0], layout.options["fc"][0]
        used = used + conv_options * convs + 4 * (adds - ends_in_add) + 4 + dense_options
        kernel = layout.kernel
        data = _round16(kernel["conv"]) * convs + _round16(kernel["add"]) * adds + multipliers
        data = data + _round16(kernel["mean"]) + _round16(kernel["fc"])
        used = _aligned(used) + data + layout.pointer * handles
        for _ in ("input", "output"):
            used = _aligned(used + layout.pointer) + layout.tensor + layout.quantization + 8
        result: Ints = used + (CMSIS_EXTRA_BYTES if self.runtime.scratch == "cmsis-nn" else 0)
        return result


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
    ]


def _scaled(widths: Floats, outs: Sequence[int], divisor: int) -> Ints:
    return np.array([[make_divisible(out * float(width), divisor) for out in outs] for width in widths], dtype=np.int64)


def _round16(size: int) -> int:
    return (size + 15) & ~15


def _aligned(size: Any) -> Any:
    return (np.asarray(size) + 15) & ~15


def _conv_scratch(runtime: Runtime, kernel: Any, channels: Any) -> Any:
    if runtime.scratch != "cmsis-nn":
        return 0
    area = np.asarray(kernel) ** 2
    return np.where(area == 1, 0, _aligned(4 * ((area * channels + 3) // 4 * 4)))


def _depthwise_scratch(runtime: Runtime, kernel: Any, channels: Any) -> Any:
    if runtime.scratch != "cmsis-nn":
        return 0
    kernel = np.asarray(kernel)
    return np.where(kernel == 3, 0, _aligned(2 * kernel * kernel * channels))


def _merge(total: Ints, rows: Ints) -> None:
    total[:, _SUMMED] += rows[:, _SUMMED]
    np.maximum(total[:, _MAXIMISED], rows[:, _MAXIMISED], out=total[:, _MAXIMISED])
    np.bitwise_or(total[:, _BITS], rows[:, _BITS], out=total[:, _BITS])


class _Makes:
    """Makes the tables of one space: which bit stands for which options table and which channel count."""

    def __init__(self, runtime: Runtime, space: Space) -> None:
        self.runtime = runtime
        act = space.act
        strides = sorted({s for stage in space.stages for s in stage.stride} | {1})
        keys: list[OptionKey] = [("conv", (s, s), act, True) for s in sorted({*space.stem.stride, 1})]
        keys += [("conv", (1, 1), "none", True), *(("dw", (s, s), act, True) for s in strides)]
        keys += [("add", "none"), ("mean",), ("fc", "none")]
        self.keys = list(dict.fromkeys(keys))
        self.bit = {key: number for number, key in enumerate(self.keys)}
        self.channels = self._channels(space)
        self.words = -(-len(self.channels) // _WORD)
        self.columns = _KEYS + 1 + self.words
        deepest = sum(max(stage.depth) for stage in space.stages)
        self.digits = np.array([0, *(10**n for n in range(1, len(str(deepest - 1))))], dtype=np.int64)
        """First block number with one digit, two digits, ...: longer names make a longer file."""
        self._sums = self._byte_sums()
        self._structures: dict[int, Terms] = {}

    @staticmethod
    def _channels(space: Space) -> Ints:
        """Every output channel count that a convolution of the space can have."""
        widths = space.width_mult
        found: set[int] = set()
        ins = {make_divisible(o * w, space.divisor) for w in widths for o in space.stem.out}
        found |= ins
        for stage in space.stages:
            outs = {make_divisible(o * w, space.divisor) for w in widths for o in stage.out}
            found |= outs
            found |= {int(_mid(np.asarray(c), e)) for c in ins | outs for e in stage.expand}
            ins = outs
        found |= {make_divisible(o * w, space.divisor) for w in widths for o in space.head.out if o}
        return np.array(sorted(found), dtype=np.int64)

    def _byte_sums(self) -> Ints:
        """(bytes of the bit words, 256, 2): front and grids terms of the channel counts whose bits a byte holds."""
        per_value = np.zeros((self.words * _WORD, 2), dtype=np.int64)
        per_value[: len(self.channels), 0] = 8 - shape_bytes(3)
        per_value[: len(self.channels), 1] = shape_bytes(3) + 4 + 8 * self.channels
        sums = np.zeros((self.words, -(-_WORD // 8), 256, 2), dtype=np.int64)
        for word in range(self.words):
            for bit in range(_WORD):
                holds = (np.arange(256) >> (bit % 8)) & 1
                sums[word, bit // 8] += holds[:, None] * per_value[word * _WORD + bit]
        return sums

    def rows(self, *axes: Any) -> _Rows:
        """An empty grid over ``axes``."""
        return _Rows(self, np.broadcast_shapes(*(np.shape(axis) for axis in axes)))

    def blocks(self, act: Activation, *axes: Any) -> Ints:
        """Rows of inverted residual blocks, for each number of digits that a block's number can have."""
        tables = [_block_rows(self, f"b{first}", act, *axes) for first in self.digits]
        flat = np.stack([table[:-1] for table in tables], axis=1).reshape(-1, self.columns)
        return np.concatenate([flat, tables[0][-1:]])

    def file_bytes(self, columns: Ints, tensors: Ints, classes: int) -> Ints:
        """:func:`tinynas.cost.flash.file_bytes` with a memory plan, from the united columns of N networks."""
        front, grids, constants, spare = (columns[c].copy() for c in (_FRONT, _GRIDS, _CONSTANTS, _SPARE))
        for word in range(self.words):
            bits = columns[_KEYS + 1 + word]
            for byte in range(self._sums.shape[1]):
                pair = self._sums[word, byte]
                chosen = (bits >> (8 * byte)) & 255
                front += pair[:, 0][chosen]
                grids += pair[:, 1][chosen]
        has_classes = self._occurs(columns, classes)
        front += 8 * (1 - has_classes)
        single = 1 - self._occurs(columns, 1)
        front -= shape_bytes(1) * single
        grids += (shape_bytes(1) + 12) * single
        masks, inverse = np.unique(columns[_KEYS], return_inverse=True)
        terms = np.array([self._structure(int(mask)) for mask in masks], dtype=np.int64).reshape(-1, len(Terms._fields)).T[:, inverse]
        front += terms[0]
        grids += terms[1] + terms[2]
        constants += terms[3]
        spare += terms[5] - terms[4]
        contents: tuple[Any, Any] = (12 + 4 * tensors, metadata_reserve(classes))
        for size in contents:
            constants += constant_bytes(size)
            spare += 1 - houses_table(size)
        sums: Any = (front, grids, 0, constants, 0, spare, tensors)
        size_bytes: Any = total_bytes(Terms(*sums))
        result: Ints = size_bytes
        return result

    def _occurs(self, columns: Ints, channels: int) -> Ints:
        at = int(np.searchsorted(self.channels, channels))
        if at == len(self.channels) or self.channels[at] != channels:
            return np.zeros_like(columns[_KEYS])
        occurs: Ints = (columns[_KEYS + 1 + at // _WORD] >> (at % _WORD)) & 1
        return occurs

    def _structure(self, mask: int) -> Terms:
        if mask not in self._structures:
            keys = frozenset(key for key, bit in self.bit.items() if mask >> bit & 1)
            self._structures[mask] = structure_terms(keys, io="int8", flavour="full", plan=True)
        return self._structures[mask]


class _Rows:
    """Costs of one block at every point of a grid."""

    def __init__(self, make: _Makes, shape: tuple[int, ...]) -> None:
        self.make = make
        self.runtime = make.runtime
        self.grid = np.zeros((*shape, make.columns), dtype=np.int64)
        self.align: Callable[[Any], Any] = _aligned if make.runtime.alignment == 16 else np.asarray

    def terms(self, terms: Terms, times: Any = 1) -> None:
        """Adds terms of the file's size; tensors are counted otherwise."""
        grid = self.grid
        grid[..., _FRONT] += terms.front * times
        grid[..., _GRIDS] += (terms.quantisation + terms.scales) * times
        grid[..., _CONSTANTS] += terms.constants * times
        grid[..., _SPARE] += (terms.contents - terms.houses) * times

    def shape(self, rank: int, times: Any = 1) -> None:
        """Adds a list of dimensions."""
        self.grid[..., _FRONT] += shape_bytes(rank) * times

    def output(self, name: str, *, times_shape: Any, times: Any = 1) -> None:
        """Adds an activation tensor, with a shape of its own where ``times_shape``."""
        self.terms(activation_terms(len(name), full=True), times)
        self.shape(3, np.asarray(times_shape) * times)

    def key(self, key: OptionKey, where: Any = True) -> None:
        """Notes that the file needs an options table."""
        self.grid[..., _KEYS] |= np.where(where, 1 << self.make.bit[key], 0)

    def _weights(self, column: int, pixels: Any, weights: Any, out: Any, times: Any) -> None:
        grid = self.grid
        grid[..., column] += pixels * weights * times
        grid[..., _WEIGHTS] += weights * times
        grid[..., _CHANNELS] += out * times
        grid[..., _CONVS] += times
        grid[..., _MULTIPLIERS] += 2 * _aligned(4 * np.asarray(out)) * times
        # Channel counts that cannot occur (times 0) have no bit; they are not marked either.
        at = np.minimum(np.searchsorted(self.make.channels, out), len(self.make.channels) - 1)
        for word in range(self.make.words):
            here = (at // _WORD == word) & (np.asarray(times) > 0)
            grid[..., _KEYS + 1 + word] |= np.where(here, np.left_shift(1, at % _WORD), 0)

    def conv(
        self, name: str, side: Any, inside: Any, out: Any, kernel: Any, *, act: Activation, stride: Any = None, times: Any = 1
    ) -> None:
        """Adds a dense convolution without its output tensor."""
        area = kernel**2
        weights = area * inside * out
        pointwise = (area == 1).astype(np.int64)
        times = np.asarray(times)
        self._weights(_POINTWISE, side * side, weights, out, times * pointwise)
        self._weights(_DENSE, side * side, weights, out, times * (1 - pointwise))
        if self.runtime.scratch == "cmsis-nn":
            self.grid[..., _HANDLES] += times * (1 - pointwise)
        self.buffer(4 * area * inside, times)
        if self.runtime.in_place_depthwise:
            self.grid[..., _STATIC] += np.where((area == 9) & (np.asarray(inside) == 3), 2 * 27 * out, 0) * times
        self.terms(weighted_terms("conv", weights, out, len(name), full=True), times)
        self.grid[..., _FRONT] -= 4 * times  # operator code 0 is not stored
        for step in (1,) if stride is None else np.unique(stride):
            self.key(("conv", (int(step), int(step)), act, True), (times > 0) & (True if stride is None else stride == step))

    def depthwise(self, name: str, before: Any, side: Any, channels: Any, kernel: Any, stride: Any, act: Activation) -> None:
        """Adds a depthwise convolution without its output tensor."""
        weights = kernel * kernel * channels
        self._weights(_DEPTHWISE, side * side, weights, channels, 1)
        self.buffer(2 * (before + kernel - 1) ** 2)
        if self.runtime.scratch == "cmsis-nn":
            self.grid[..., _HANDLES] += np.asarray(kernel != 3)
        self.terms(weighted_terms("dw", weights, channels, len(name), full=True))
        for step in np.unique(stride):
            self.key(("dw", (int(step), int(step)), act, True), stride == step)

    def mean(self, name: str, channels: Any) -> None:
        """Adds the global average pooling and its output."""
        self.grid[..., _HANDLES] += 3
        self.terms(mean_terms(len(name), full=True))
        self.terms(activation_terms(len(name), full=True))
        self.shape(1)
        self.key(("mean",))

    def connected(self, name: str, output: str, inside: Any, out: int) -> None:
        """Adds the classifier and its output."""
        grid = self.grid
        grid[..., _CONNECTED] += inside * out
        grid[..., _WEIGHTS] += inside * out
        grid[..., _CHANNELS] += out
        self.terms(weighted_terms("fc", inside * out, out, len(name), full=True))
        self.terms(activation_terms(len(output), full=True))
        self.shape(1, inside != out)
        self.key(("fc", "none"))

    def add(self, name: str, times: Any) -> None:
        """Adds a residual and its output, whose shape is the shortcut's."""
        self.grid[..., _ADDS] += times
        self.grid[..., _FRONT] += (OPERATOR_BYTES + 12) * times
        self.output(name, times_shape=False, times=times)
        self.key(("add", "none"), np.asarray(times) > 0)

    def buffer(self, size: Any, times: Any = 1) -> None:
        """TinyEngine's work buffer; see :func:`tinynas.cost.runtimes.static_bytes`."""
        if self.runtime.in_place_depthwise:
            self.grid[..., _BUFFER] = np.maximum(self.grid[..., _BUFFER], size * times)

    def live(self, *sizes: Any, scratch: Any = 0, times: Any = 1) -> None:
        """Notes the bytes alive during an operator."""
        total: Any = sum(self.align(size) for size in sizes)
        self.grid[..., _PEAK] = np.maximum(self.grid[..., _PEAK], (total + scratch) * times)

    def table(self) -> Ints:
        """All rows, row-major, with a row of zeros at the end."""
        flat = self.grid.reshape(-1, self.make.columns)
        return np.concatenate([flat, np.zeros((1, self.make.columns), dtype=np.int64)])


def _mid(inside: Any, expand: Any) -> Any:
    # Python's round() is half to even, as is numpy's: mid channels agree with tinynas.graph.mid_channels.
    return np.where(np.asarray(expand) == 1, inside, np.maximum(1, np.rint(inside * expand))).astype(np.int64)


def _block_rows(make: _Makes, name: str, act: Activation, side: Any, inside: Any, out: Any, stride: Any, kernel: Any, expand: Any) -> Ints:
    runtime = make.runtime
    rows = make.rows(side, inside, out, stride, kernel, expand)
    mid = _mid(inside, expand)
    expands = (np.asarray(expand) != 1).astype(np.int64)
    residual = ((np.asarray(stride) == 1) & (np.asarray(inside) == np.asarray(out))).astype(np.int64)
    after = -(-side // stride)
    x, wide, narrow, y = side * side * inside, side * side * mid, after * after * mid, after * after * out
    kept = rows.align(x) * residual

    rows.conv(f"{name}.expand", side, inside, mid, np.asarray(1), act=act, times=expands)
    rows.output(f"{name}.expand", times_shape=mid != inside, times=expands)
    rows.live(x, wide, times=expands)

    rows.depthwise(f"{name}.dw", side, after, mid, kernel, stride, act)
    rows.output(f"{name}.dw", times_shape=after != side)
    # Without an expand convolution the depthwise one reads the block's input itself.
    kept_here = kept * expands
    if runtime.in_place_depthwise:
        rows.live(np.where((residual == 1) & (expands == 0), wide + narrow, np.maximum(wide, narrow)), scratch=kept_here)
    else:
        rows.live(wide, narrow, scratch=_depthwise_scratch(runtime, kernel, mid) + kept_here)

    rows.conv(f"{name}.project", after, mid, out, np.asarray(1), act="none")
    rows.output(f"{name}.project", times_shape=(out != mid) & (residual == 0))
    rows.live(narrow, y, scratch=kept)

    rows.add(f"{name}.add", residual)
    rows.live(x, y, y, times=residual)
    return rows.table()
