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

from tinynas.cost.latency import latency_model
from tinynas.cost.runtimes import Runtime, runtime_named
from tinynas.cost.tail import CMSIS_EXTRA_BYTES, LAYOUTS
from tinynas.errors import UserError
from tinynas.space import Space, StageSpace, make_divisible

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Networks costed at a time: small enough that the working arrays stay in the processor's cache.
CHUNK = 4096
#: A table of more rows than this would not pay; the space is refused with the advice to restrict it.
MAX_ROWS = 4_000_000

# Columns of the block tables; the last two are maximised over a network's blocks, the others summed.
_DENSE, _POINTWISE, _DEPTHWISE, _CONNECTED, _WEIGHTS, _CHANNELS, _CONVS, _ADDS, _MULTIPLIERS, _HANDLES, _STATIC, _PEAK, _BUFFER = range(13)
_COLUMNS = 13


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
    """Rows of a first block: (map, in, out, stride, kernel, expand) in row-major order, then the zero row."""
    other: Ints
    """Rows of a later block: (map after the stride, out, kernel, expand), then the zero row."""
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
        space = self.space
        index = space.gene_index
        widths = np.array(space.width_mult, dtype=np.float64)
        self._head_columns = tuple(index[n] for n in ("resolution", "color", "width_mult", "stem.out", "stem.kernel", "stem.stride"))
        stem_out = _scaled(widths, space.stem.out, space.divisor)
        sides = np.array(space.resolution, dtype=np.int64)
        colours = np.array([3 if c == "rgb" else 1 for c in space.color], dtype=np.int64)
        kernels = np.array(space.stem.kernel, dtype=np.int64)
        strides = np.array(space.stem.stride, dtype=np.int64)
        side, colour, width, out, kernel, stride = np.ix_(
            sides, colours, np.arange(len(widths)), np.arange(len(space.stem.out)), kernels, strides
        )
        stem_channels = stem_out[width, out]
        after = -(-side // stride)
        rows = _Rows(np.broadcast_shapes(side.shape, colour.shape, width.shape, out.shape, kernel.shape, stride.shape), self.runtime)
        rows.conv(after, colour, stem_channels, kernel)
        rows.live(side * side * colour, after * after * stem_channels, scratch=_conv_scratch(self.runtime, kernel, colour))
        self._stem = rows.table()
        self._stem_counts = (len(sides), len(colours), len(widths), len(space.stem.out), len(kernels), len(strides))

        maps = _Axis.of(-(-sides[:, None] // strides[None, :]))
        channels = _Axis.of(stem_out)
        self._map_of_stem = maps.index(-(-sides[:, None] // strides[None, :]))
        self._channels_of_stem = channels.index(stem_out)
        self._stages: list[_Stage] = []
        for number, stage in enumerate(space.stages):
            built, maps, channels = self._stage(number, stage, maps, channels, widths)
            self._stages.append(built)

        self._head_column = index["head.out"]
        heads = np.array([[make_divisible(o * w, space.divisor) if o else 0 for o in space.head.out] for w in widths], dtype=np.int64)
        side, inside, width, out = np.ix_(maps.values, channels.values, np.arange(len(widths)), np.arange(len(space.head.out)))
        head = heads[width, out]
        last = np.where(head > 0, head, inside)
        rows = _Rows(np.broadcast_shapes(side.shape, inside.shape, width.shape, out.shape), self.runtime)
        has_head = (head > 0).astype(np.int64)
        rows.conv(side, inside, head, 1, times=has_head)
        rows.live(side * side * inside, side * side * head, times=has_head)
        if self.runtime.scratch == "none":
            rows.live(side * side * last, last)
        else:
            rows.live(side * side * last, last, scratch=_aligned(4 * last) + _aligned(16) + _aligned(8))
        rows.connected(last, self.classes)
        rows.live(last, np.asarray(self.classes))
        self._last = rows.table()
        self._last_counts = (len(maps), len(channels), len(widths), len(space.head.out))
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
        side, inside, out, stride, kernel, expand = np.ix_(maps.values, channels.values, out_axis.values, strides, kernels, expands)
        first = _block_rows(self.runtime, side, inside, out, stride, kernel, expand)
        side, out, kernel, expand = np.ix_(next_maps.values, out_axis.values, kernels, expands)
        other = _block_rows(self.runtime, side, out, out, np.asarray(1), kernel, expand)
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
        peak = rows[:, _PEAK:].copy()
        at = self._map_of_stem[side, stride]
        inside = self._channels_of_stem[width, stem_out]
        last_adds = np.zeros(len(side), dtype=np.int64)
        for stage in self._stages:
            _, n_in, n_out, n_stride, n_kernel, n_expand = stage.counts
            out_column, stride_column, depth_column = stage.columns
            out = stage.out_of[width, columns[out_column]]
            step = columns[stride_column]
            depth = stage.depths[columns[depth_column]]
            next_map = stage.map_of[at, step]
            base = (next_map * n_out + out) * n_kernel
            zero = len(stage.other) - 1
            for number, (kernel_column, expand_column) in enumerate(stage.blocks):
                if number == 0:
                    row = (((at * n_in + inside) * n_out + out) * n_stride + step) * n_kernel + columns[kernel_column]
                    rows = stage.first.take(row * n_expand + columns[expand_column], axis=0)
                else:
                    row = (base + columns[kernel_column]) * n_expand + columns[expand_column]
                    rows = stage.other.take(np.where(depth > number, row, zero), axis=0)
                total += rows
                np.maximum(peak, rows[:, _PEAK:], out=peak)
            last_adds = np.where(depth > 1, 1, stage.residual_first[inside, out, step])
            at, inside = next_map, out
        _, n_in, n_width, n_head = self._last_counts
        head = columns[self._head_column]
        rows = self._last.take(((at * n_in + inside) * n_width + width) * n_head + head, axis=0)
        total += rows
        np.maximum(peak, rows[:, _PEAK:], out=peak)
        return self._costs(total, peak, last_adds * (1 - self._head_given[width, head]))

    def _costs(self, total: Ints, peaks: Ints, ends_in_add: Ints) -> BatchCost:
        dense, pointwise, depthwise, connected, weights, channels, convs, adds, multipliers, handles, static, _, _ = total.T
        peak = peaks[:, 0] + peaks[:, 1] + static + self.runtime.extra_bytes
        weights_bytes = weights + 4 * channels
        tail = self._tail(convs, adds, multipliers, handles, ends_in_add)
        if self.latency is None or self.clock_mhz is None:
            latency = np.full(len(peak), np.nan)
        else:
            a, b, c, d = self.latency.cycles
            latency = (dense * a + pointwise * b + depthwise * c + connected * d) / (1000.0 * self.clock_mhz)
        if self.runtime.flash == "file":
            flash = weights_bytes + 24 * (channels - self.classes) + 1160 + 340 * convs + 139 * adds
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


class _Rows:
    """Costs of one block at every point of a grid."""

    def __init__(self, shape: tuple[int, ...], runtime: Runtime) -> None:
        self.grid = np.zeros((*shape, _COLUMNS), dtype=np.int64)
        self.runtime = runtime
        self.align: Callable[[Any], Any] = _aligned if runtime.alignment == 16 else np.asarray

    def _weights(self, column: int, pixels: Any, weights: Any, out: Any, times: Any) -> None:
        grid = self.grid
        grid[..., column] += pixels * weights * times
        grid[..., _WEIGHTS] += weights * times
        grid[..., _CHANNELS] += out * times
        grid[..., _CONVS] += times
        grid[..., _MULTIPLIERS] += 2 * _aligned(4 * np.asarray(out)) * times

    def conv(self, side: Any, inside: Any, out: Any, kernel: Any, times: Any = 1) -> None:
        area = np.asarray(kernel) ** 2
        weights = area * inside * out
        pointwise = (area == 1).astype(np.int64)
        self._weights(_POINTWISE, side * side, weights, out, times * pointwise)
        self._weights(_DENSE, side * side, weights, out, times * (1 - pointwise))
        if self.runtime.scratch == "cmsis-nn":
            self.grid[..., _HANDLES] += times * (1 - pointwise)
        self.buffer(4 * area * inside, times)
        if self.runtime.in_place_depthwise:
            self.grid[..., _STATIC] += np.where((area == 9) & (np.asarray(inside) == 3), 2 * 27 * out, 0) * times

    def depthwise(self, before: Any, side: Any, channels: Any, kernel: Any) -> None:
        self._weights(_DEPTHWISE, side * side, kernel * kernel * channels, channels, 1)
        self.buffer(2 * (before + kernel - 1) ** 2)
        if self.runtime.scratch == "cmsis-nn":
            self.grid[..., _HANDLES] += np.asarray(kernel != 3)

    def connected(self, inside: Any, out: Any) -> None:
        grid = self.grid
        grid[..., _CONNECTED] += inside * out
        grid[..., _WEIGHTS] += inside * out
        grid[..., _CHANNELS] += out
        grid[..., _HANDLES] += 3  # of MEAN

    def buffer(self, size: Any, times: Any = 1) -> None:
        """TinyEngine's work buffer; see :func:`tinynas.cost.runtimes.static_bytes`."""
        if self.runtime.in_place_depthwise:
            self.grid[..., _BUFFER] = np.maximum(self.grid[..., _BUFFER], size * times)

    def add(self, times: Any) -> None:
        self.grid[..., _ADDS] += times

    def live(self, *sizes: Any, scratch: Any = 0, times: Any = 1) -> None:
        total: Any = sum(self.align(size) for size in sizes)
        self.grid[..., _PEAK] = np.maximum(self.grid[..., _PEAK], (total + scratch) * times)

    def table(self) -> Ints:
        """All rows, row-major, with a row of zeros at the end."""
        flat = self.grid.reshape(-1, _COLUMNS)
        return np.concatenate([flat, np.zeros((1, _COLUMNS), dtype=np.int64)])


def _block_rows(runtime: Runtime, side: Any, inside: Any, out: Any, stride: Any, kernel: Any, expand: Any) -> Ints:
    shape = np.broadcast_shapes(*(np.shape(axis) for axis in (side, inside, out, stride, kernel, expand)))
    rows = _Rows(shape, runtime)
    # Python's round() is half to even, as is numpy's: mid channels agree with tinynas.graph.mid_channels.
    mid = np.where(np.asarray(expand) == 1, inside, np.maximum(1, np.rint(inside * expand))).astype(np.int64)
    expands = (np.asarray(expand) != 1).astype(np.int64)
    residual = ((np.asarray(stride) == 1) & (np.asarray(inside) == np.asarray(out))).astype(np.int64)
    after = -(-side // stride)
    x, wide, narrow, y = side * side * inside, side * side * mid, after * after * mid, after * after * out
    kept = rows.align(x) * residual
    rows.conv(side, inside, mid, 1, times=expands)
    rows.live(x, wide, times=expands)
    rows.depthwise(side, after, mid, kernel)
    # Without an expand convolution the depthwise one reads the block's input itself.
    kept_here = kept * expands
    if runtime.in_place_depthwise:
        rows.live(np.where((residual == 1) & (expands == 0), wide + narrow, np.maximum(wide, narrow)), scratch=kept_here)
    else:
        rows.live(wide, narrow, scratch=_depthwise_scratch(runtime, kernel, mid) + kept_here)
    rows.conv(after, mid, out, 1)
    rows.live(narrow, y, scratch=kept)
    rows.add(residual)
    rows.live(x, y, y, times=residual)
    return rows.table()
