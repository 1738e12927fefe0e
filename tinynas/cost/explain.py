"""Why a network does not fit, and the nearest single change that makes it fit: found by trying, not by rule.

The budget is whatever has ``limits``, ``runtime``, ``core`` and ``timed_mhz``: this module lies below
:mod:`tinynas.budget`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.cost.estimator import Cost
from tinynas.cost.patches import patch_plans
from tinynas.cost.quantities import QUANTITIES, shown
from tinynas.cost.runtimes import runtime_named
from tinynas.errors import UserError, counted
from tinynas.front_end import FrontEnd
from tinynas.graph import Graph, lower
from tinynas.space import make_divisible


class Limits(Protocol):
    """What is needed of a budget."""

    @property
    def limits(self) -> Mapping[str, float]:
        """Limit by cost name."""

    @property
    def runtime(self) -> Any:
        """Name of the runtime."""

    def cost(self, graph: Graph) -> Cost:
        """What a network costs there."""

    def why_unknown(self, name: str) -> str | None:
        """Why no network's quantity ``name`` is known there, or None."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit and the operator that asks most of it."""

    limit: str
    """Name of a quantity: ``sram_bytes``, ``macs``, ..."""
    allowed: float
    value: float
    op: str | None
    """Name of the operator; None where what each contributes is not known."""
    index: int | None
    share: float | None
    """Share of ``value`` that this operator is answerable for, 0 to 1."""

    @property
    def over(self) -> float:
        """(value - allowed) / allowed."""
        return (self.value - self.allowed) / self.allowed

    def text(self) -> str:
        """One line for people."""
        quantity = QUANTITIES[self.limit]
        relation = f"{self.over:.0%} over" if self.over > 0 else f"{-self.over:.0%} below"
        if self.share is None:
            why = ""
        elif quantity.peak:
            why = f"; set by {self.op} (operator {self.index}), during which {quantity.text(self.share * self.value)} are alive"
        else:
            why = f"; most of it in {self.op} (operator {self.index}): {self.share:.0%}"
        return f"{quantity.title}: {quantity.exact(self.value)}, {relation} the limit of {quantity.exact(self.allowed)}{why}"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an architecture, tried."""

    kind: str
    """resolution (of sounds front_end), width, expand, stride or patches."""
    what: str
    """For people: what becomes what."""
    arch: Arch
    cost: Cost
    worst: float
    """Largest excess that is left; 0 or less fits."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Limits, the one that binds, and what would help."""

    fits: bool
    binding: Binding
    """The limit that is exceeded most (or, where all is well, that is nearest)."""
    limits: tuple[Binding, ...]
    changes: tuple[Change, ...]
    """The nearest change of each kind that fits, most MACs kept first; empty where none does or none is needed."""
    closest: Change | None
    """Where no single change fits: the one that comes nearest."""
    tried: int
    """Number of networks estimated."""

    def text(self) -> str:
        """Some lines for people."""
        if self.fits:
            return f"Fits. Nearest limit: {self.binding.text()}"
        lines = ["Does not fit:"]
        lines += [f"  {binding.text()}" for binding in self.limits if binding.over > 0]
        if self.changes:
            lines.append(f"One change that makes it fit, nearest first ({self.tried} tried):")
            lines += [f"  {change.what}  ({_costs(change.cost)})" for change in self.changes]
        elif self.closest is not None:
            lines.append(f"No single change makes it fit ({self.tried} tried); nearest, still {self.closest.worst:.0%} over:")
            lines.append(f"  {self.closest.what}  ({_costs(self.closest.cost)})")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as a document."""
        return {
            "fits": self.fits,
            "binding": _binding_json(self.binding),
            "limits": [_binding_json(binding) for binding in self.limits],
            "changes": [_change_json(change) for change in self.changes],
            "closest": None if self.closest is None else _change_json(self.closest),
            "tried": self.tried,
        }


def _binding_json(binding: Binding) -> dict[str, Any]:
    return {
        "limit": binding.limit,
        "allowed": binding.allowed,
        "value": binding.value,
        "over": binding.over,
        "op": binding.op,
        "index": binding.index,
        "share": binding.share,
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {"kind": change.kind, "change": change.what, "worst_excess": change.worst, **change.cost.values()}


def _costs(cost: Cost) -> str:
    figures = shown(cost.values(), "narrow")
    return ", ".join(f"{quantity.title} {quantity.text(value)}" for quantity, value in figures.items() if value is not None)


def explain(arch: Arch, budget: Limits) -> Explanation:
    """What limits ``arch`` under ``budget``, and the nearest single change that makes it fit.

    Tried, each alone: lower resolutions (keeping the aspect; of sounds fewer frames or features), narrower widths (all channels), a
    smaller expand ratio of one block, a stride of 2 in one layer; and the same network in patches where the runtime runs them.
    Nearest means that the most MACs are kept.
    """
    cost = budget.cost(lower(arch))
    limits = tuple(sorted(_bindings(cost, budget), key=lambda binding: -binding.over))
    if not limits:
        raise UserError("the budget sets no limit that can be explained", "give sram, flash, macs or latency_ms")
    if limits[0].over <= 0:
        return Explanation(True, limits[0], limits, (), None, 1)
    nearest: dict[str, Change] = {}
    closest: Change | None = None
    tried = 1
    for kind, what, candidate in _candidates(arch):
        try:
            changed = budget.cost(lower(candidate))
        except UserError:
            continue  # too small to build
        tried += 1
        change = Change(kind, what, candidate, changed, max(_excess(changed, budget)))
        if change.worst <= 0:
            if kind not in nearest or changed.macs > nearest[kind].cost.macs:
                nearest[kind] = change
        elif closest is None or change.worst < closest.worst:
            closest = change
    patched = _patched(arch, cost, budget)
    if patched is not None:
        nearest["patches"] = patched
    changes = tuple(sorted(nearest.values(), key=lambda change: -change.cost.macs))
    return Explanation(False, limits[0], limits, changes, None if changes else closest, tried)


def _patched(arch: Arch, cost: Cost, budget: Limits) -> Change | None:
    """The patch plan that fits with the fewest recomputed MACs, where the runtime can run patches."""
    if not runtime_named(budget.runtime).patches:
        return None
    for plan in sorted(patch_plans(lower(arch), budget.runtime), key=lambda plan: plan.macs):
        applied = plan.apply(cost)
        worst = max(_excess(applied, budget))
        if worst <= 0:
            cut = f"{plan.patches} x {plan.patches} patches, {plan.recomputed:.1%} more MACs"
            what = f"first {counted(plan.ops, 'operator')} (to {plan.last_op}) in {cut}"
            return Change("patches", what, arch, applied, worst)
    return None


def _excess(cost: Cost, budget: Limits) -> list[float]:
    values = cost.values()
    return [math.inf if (value := values[name]) is None else (value - limit) / limit for name, limit in budget.limits.items()]


def _bindings(cost: Cost, budget: Limits) -> Iterator[Binding]:
    values = cost.values()
    for name, limit in budget.limits.items():
        value = values[name]
        if value is None:
            title, why = QUANTITIES[name].title, budget.why_unknown(name)
            raise UserError(f"the limit of {title} cannot be explained: {why or 'it is not known of this network'}", "leave it out")
        if cost.learning is not None and name == "update_sram_bytes":
            learning = cost.learning
            yield Binding(name, limit, value, learning.peak, learning.peak_index, max(learning.live) / value)
            continue
        part = QUANTITIES[name].part
        if part is None:
            yield Binding(name, limit, value, None, None, None)
        else:
            op = max(cost.layers, key=part)
            yield Binding(name, limit, value, op.name, op.index, part(op) / value if value else 0.0)


def _candidates(arch: Arch) -> Iterator[tuple[str, str, Arch]]:
    yield from _resolutions(arch) if arch.front_end is None else _front_ends(arch, arch.front_end)
    yield from _widths(arch)
    blocks = arch.blocks
    for index, block in enumerate(blocks):
        if isinstance(block, MBConv) and block.expand > 1:
            # A mid width given apart overrides the ratio: both shrink together.
            for ratio in sorted({float(r) for r in range(1, 32) if r < block.expand} | {1.0}, reverse=True):
                mid = None if block.mid is None or ratio == 1 else max(1, round(block.mid * ratio / block.expand))
                smaller = block.model_copy(update={"expand": ratio, "mid": mid})
                what = f"expand ratio of b{index} {block.expand:g} -> {ratio:g}"
                yield "expand", what, arch.model_copy(update={"blocks": (*blocks[:index], smaller, *blocks[index + 1 :])})
    if arch.stem is not None and arch.stem.stride == arch.stem.dilation == 1:
        yield "stride", "stride of stem 1 -> 2", arch.model_copy(update={"stem": arch.stem.model_copy(update={"stride": 2})})
    for index, block in enumerate(blocks):
        if isinstance(block, (MBConv, Separable, ConvLayer)) and block.stride == block.dilation == 1:
            update: dict[str, object] = {"stride": 2}
            note = ""
            if isinstance(block, MBConv) and block.residual:
                update["residual"], note = False, " (its residual goes)"
            strided = block.model_copy(update=update)
            what = f"stride of b{index} 1 -> 2{note}"
            yield "stride", what, arch.model_copy(update={"blocks": (*blocks[:index], strided, *blocks[index + 1 :])})


def _resolutions(arch: Arch) -> Iterator[tuple[str, str, Arch]]:
    before = f"{arch.height}x{arch.width}"
    for height in range(arch.height - 1, 7, -1):
        if height % 8 and height % 4:
            continue
        width = max(8, round(arch.width * height / arch.height))
        yield "resolution", f"resolution {before} -> {height}x{width}", arch.model_copy(update={"height": height, "width": width})


def _front_ends(arch: Arch, heard: FrontEnd) -> Iterator[tuple[str, str, Arch]]:
    features = "coefficients" if heard.kind == "mfcc" else "bins"
    longer = [("stride_ms", stride) for stride in range(heard.stride_ms + 1, heard.window_ms + 1)]
    fewer = [(features, count) for count in range(heard.features - 1, 3, -1)]
    for name, value in (*longer, *fewer):
        changed = heard.model_copy(update={name: value})
        height, width, channels = changed.shape
        what = f"front end's {name} {getattr(heard, name)} -> {value} ({changed.frames} frames of {changed.features})"
        yield "front_end", what, arch.model_copy(update={"front_end": changed, "height": height, "width": width, "channels": channels})


def _widths(arch: Arch) -> Iterator[tuple[str, str, Arch]]:
    for percent in range(95, 9, -5):
        factor = percent / 100

        def scaled(channels: int, factor: float = factor) -> int:
            return min(channels, make_divisible(channels * factor, 4 if channels < 64 else 8))

        blocks: list[MBConv | Separable | ConvLayer | Pool] = []
        for block in arch.blocks:
            if isinstance(block, MBConv):
                mid = None if block.mid is None else scaled(block.mid)
                blocks.append(block.model_copy(update={"out": scaled(block.out), "mid": mid}))
            elif isinstance(block, Pool):
                blocks.append(block)
            else:
                blocks.append(block.model_copy(update={"out": scaled(block.out)}))
        update: dict[str, object] = {"blocks": tuple(blocks)}
        for name in ("stem", "head"):
            layer = getattr(arch, name)
            if layer is not None:
                update[name] = layer.model_copy(update={"out": scaled(layer.out)})
        yield "width", f"all widths x {factor:g}", arch.model_copy(update=update)
