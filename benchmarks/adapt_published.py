"""Memory of learning on the board beside the published figures of MCUNetV3, and NEq's schemes' shares of parameters.

Run: ``python benchmarks/adapt_published.py``; writes results/benchmarks/adapt_published.json and .md.

MCUNetV3 (Lin et al., NeurIPS 2022, arXiv 2206.15472; github.com/mit-han-lab/tiny-training at c29157f) publishes sparse updates of three
networks at 128 px with 10 classes and calls each by the memory that it takes beside inference: ``compilation/mcu_ir_gen.py``; the 448 KB
of the last 12 layers stand in ``algorithm/scripts/sparse_update.sh``; that the last two blocks take more than 256 KB is said in IEEE
Circuits and Systems Magazine, third quarter of 2023, page 29. ``algorithm/core/utils/partial_backward.py`` counts so: for
each convolution that is updated a bit an element of its output, 32 bits a bias, 8 bits an updated weight, and 8 bits an element of the
input channels whose weights are updated; of the classifier its input alone. That rule is worked out here once more, from shapes, and stands
beside what the planner of :mod:`tinynas.cost.backward` says of the same update.

NEq's schemes (Quelennec et al., arXiv 2312.05282): ``NEq_configs.yaml`` of its repository at 0d79f13 gives for each scheme the share of the
weights of MobileNetV2's convolutions (2,189,760) that may be updated; here it is the share that the scheme's own layers and ratios have.

What it does not show: time, accuracy, and what a board really used: MCUNetV3's measured peaks are in pictures of the paper, not at hand
as numbers, and neither are its figures for the full update and for biases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinynas.adapt.schemes import PRESETS
from tinynas.arch import load_arch
from tinynas.cost.backward import UpdateCost, estimate_update
from tinynas.cost.updates import Update, area_of, biases_of, columns_of, full_update, inputs_part, last_biases, last_layers, weighted_of
from tinynas.files import write_atomic
from tinynas.graph import DepthwiseConv2D, Graph, Weighted, lower, outputs_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "adapt_published"
SIDE, CLASSES = 128, 10
RUNTIME, CORE = "tflm-cmsis-nn", "cortex-m7"


@dataclass(frozen=True)
class Scheme:
    """A published sparse update: called by its kB, biases of the last so many convolutions, (convolution, share of its input channels)."""

    kb: int
    biases: int
    layers: tuple[tuple[int, float], ...]


def _scheme(kb: int, biases: int, numbers: Sequence[int], ratios: Sequence[float]) -> Scheme:
    return Scheme(kb, biases, tuple(zip(numbers, ratios, strict=True)))


_MBV2 = (27, 30, 33, 36, 39, 42, 45, 48)
_PROXYLESS = (36, 39, 42, 45, 48, 51, 54, 57)
#: Zoo name -> what it is called there, and the sparse updates.
PUBLISHED: dict[str, tuple[str, tuple[Scheme, ...]]] = {
    "mcunet-in1": (
        "mcunet-5fps",
        (
            _scheme(49, 20, (23, 24, 27, 30, 33, 39), (0, 0.25, 0.5, 0.5, 0, 0)),
            _scheme(74, 21, (21, 23, 24, 26, 27, 30), (1, 0, 1, 0, 0.5, 1)),
            _scheme(99, 22, (21, 24, 27, 30, 36, 39), (1, 1, 1, 1, 0.125, 0.25)),
            _scheme(124, 24, (21, 24, 27, 30, 33, 39), (0.25, 1, 1, 1, 0.5, 0.5)),
            _scheme(148, 23, (21, 24, 27, 30, 36, 39), (1, 1, 1, 1, 1, 0.5)),
        ),
    ),
    "mbv2-w0.35": (
        "mbv2-w0.35",
        (
            _scheme(49, 16, (36, 39, 40, 41, 42, 45, 48, 49), (1, 1, 0, 0.25, 0.125, 0.125, 0.125, 0.125)),
            _scheme(73, 20, (32, 33, 36, 39, 41, 42, 45, 48), (0.125, 0.5, 0.5, 1, 0.25, 0.125, 0.125, 1)),
            _scheme(99, 25, _MBV2, (1, 1, 1, 1, 1, 0.125, 0.5, 1)),
            _scheme(123, 31, _MBV2, (1, 1, 1, 1, 1, 0.5, 1, 1)),
            _scheme(138, 34, _MBV2, (1,) * 8),
        ),
    ),
    "proxyless-w0.3": (
        "proxyless-w0.3",
        (
            _scheme(49, 21, (39, 42, 44, 45, 50, 51, 54, 57), (0.25, 1, 0, 1, 0, 0.125, 0.25, 0.25)),
            _scheme(74, 28, (33, 36, 39, 42, 45, 51, 54, 57), (0.5, 0.25, 1, 1, 1, 0.5, 0.25, 0.5)),
            _scheme(98, 25, _PROXYLESS, (1, 0.5, 1, 1, 0.25, 0.5, 1, 1)),
            _scheme(120, 32, _PROXYLESS, (1, 1, 1, 1, 0.5, 1, 1, 1)),
            _scheme(148, 45, _PROXYLESS, (1,) * 8),
        ),
    ),
}
#: (network, update): kB that are published of it.
OTHERS = {("mcunet-in1", "last 12 convolutions"): 448}
#: And where only a bound is.
MORE_THAN = {("mcunet-in1", "last 2 blocks"): 256}
#: NEq's configuration file: scheme -> share of the weights of all convolutions of MobileNetV2.
NEQ_SHARES = (0.0878233231, 0.1508110478, 0.212187637, 0.2735642262, 0.3084995616)


#: Networks that are there without the last 1x1 convolution: ``nomix`` in their names in partial_backward.py.
HEADLESS = frozenset({"mbv2-w0.35", "proxyless-w0.3"})


def graph_of(name: str, side: int = SIDE) -> Graph:
    """A zoo network at ``side`` px with ten classes, as it is in MCUNetV3's repository."""
    arch = load_arch(name).with_classes(CLASSES).model_copy(update={"height": side, "width": side})
    return lower(arch.model_copy(update={"head": None}) if name in HEADLESS else arch)


def update_of(graph: Graph, scheme: Scheme) -> Update:
    """The update of a published scheme, and the classifier, which it always updates; which channels is of no matter for memory."""
    convolutions = weighted_of(graph)[:-1]
    parts = {op.name: biases_of(op) for op in convolutions[len(convolutions) - scheme.biases :]}
    for number, ratio in scheme.layers:
        op = convolutions[number]
        parts[op.name] = inputs_part(op, range(int(_inputs(op) * ratio)))
    return Update(parts | dict(last_layers(graph, 1).parts))


def _inputs(op: Weighted) -> int:
    return outputs_of(op) if isinstance(op, DepthwiseConv2D) else columns_of(op)


def by_their_rule(graph: Graph, update: Update) -> dict[str, int]:
    """Bytes of each operator as partial_backward.py counts them."""
    *convolutions, classifier = weighted_of(graph)
    found = {classifier.name: columns_of(classifier)}
    for op in convolutions:
        part = update.of(op)
        if part.nothing:
            continue
        height, width, _ = graph.shape(op.inputs[0])
        channels = (len(part.rows) if isinstance(op, DepthwiseConv2D) else len(part.columns)) if part.weighted else 0
        weights = channels * area_of(op) * (1 if isinstance(op, DepthwiseConv2D) else outputs_of(op))
        bits = graph.tensors[op.output].elements + 32 * outputs_of(op) + 8 * weights + 8 * height * width * channels
        found[op.name] = -(-bits // 8)
    return found


def by_ours(cost: UpdateCost) -> dict[str, int]:
    """Kept activations, masks and copies of each operator."""
    rows = {row.name: row.kept_bytes + row.mask_bytes + row.copies_bytes for row in cost.rows}
    return {name: size for name, size in rows.items() if size}


def measure(graph: Graph, update: Update, published_kb: int | None) -> dict[str, Any]:
    """What an update takes, by their rule and by the planner with their element types and with float32."""
    theirs = by_their_rule(graph, update)
    costs = {name: estimate_update(graph, update, runtime=RUNTIME, core=CORE, arithmetic=name) for name in ("mcunetv3", "float32")}
    ours = by_ours(costs["mcunetv3"])
    differences = {name: ours.get(name, 0) - theirs.get(name, 0) for name in dict.fromkeys([*theirs, *ours])}
    return {
        "published_kb": published_kb,
        "their_rule_bytes": sum(theirs.values()),
        "ours_bytes": sum(ours.values()),
        "differences": {name: size for name, size in differences.items() if size},
        "inference_bytes": costs["mcunetv3"].inference.sram_bytes,
        **{
            name: {"extra_bytes": cost.extra_bytes, "ram_bytes": cost.ram_bytes, "peak": cost.peak, "parameters": cost.parameters}
            for name, cost in costs.items()
        },
    }


def rows_of(name: str) -> list[dict[str, Any]]:
    """All updates of a network."""
    schemes = PUBLISHED[name][1] if name in PUBLISHED else ()
    graph = graph_of(name, SIDE if schemes else load_arch(name).height)
    count = len(weighted_of(graph))
    updates: list[tuple[str, Update, int | None]] = [(f"sparse, {one.kb} kB", update_of(graph, one), one.kb) for one in schemes]
    updates += [
        ("classifier", last_layers(graph, 1), None),
        ("last 2 blocks", last_layers(graph, 7), None),
        ("last 12 convolutions", last_layers(graph, 13), OTHERS.get((name, "last 12 convolutions"))),
        ("all biases", last_biases(graph, count), None),
        ("full", full_update(graph), None),
    ]
    return [{"net": name, "update": words, **measure(graph, update, kb)} for words, update, kb in updates]


def neq() -> list[dict[str, Any]]:
    """NEq's schemes on MobileNetV2: the published shares beside those of their layers and ratios."""
    convolutions = weighted_of(lower(load_arch("mobilenetv2-1.0")))[:-1]
    sizes = [outputs_of(op) * columns_of(op) * area_of(op) for op in convolutions]
    found = []
    for number, (preset, published) in enumerate(zip(PRESETS, NEQ_SHARES, strict=True), start=1):
        weights = 0
        for layer, ratio in preset.layers:
            op = convolutions[layer]
            weights += int(_inputs(op) * ratio) * sizes[layer] // _inputs(op)
        found.append(
            {
                "scheme": f"scheme_{number}",
                "published_share": published,
                "published_weights": round(published * sum(sizes)),
                "weights": weights,
                "share": weights / sum(sizes),
                "of": sum(sizes),
            }
        )
    return found


def page(rows: Sequence[dict[str, Any]], shares: Sequence[dict[str, Any]]) -> str:
    """Both tables as Markdown."""

    def kb(size: int) -> str:
        return f"{size / 1024:.1f}"

    def told(row: dict[str, Any]) -> str:
        bound = MORE_THAN.get((row["net"], row["update"]))
        if row["published_kb"] is None:
            return "not at hand" if bound is None else f"more than {bound}"
        return str(row["published_kb"])

    heads = "network | update | published | by their rule | ours, their bytes | planned, their bytes | planned, float32 | inference"
    lines = [
        "# Learning on the board beside published figures",
        "",
        "Made by `python benchmarks/adapt_published.py`, which says where each figure is from, what each column counts, and what is not "
        f"shown. MCUNetV3's networks at {SIDE} px with {CLASSES} classes (`mcunet-in1` is its mcunet-5fps; the other two without their "
        f"last 1x1 convolution, as there), `mcunet-in0` at its own size; planned for `{RUNTIME}` on a {CORE}. All in KiB, which the "
        "publication writes kB; beside inference where not said otherwise.",
        "",
        f"| {heads} | most is alive in |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['net']} | {row['update']} | {told(row)} | {kb(row['their_rule_bytes'])} | {kb(row['ours_bytes'])} "
            f"| {kb(row['mcunetv3']['extra_bytes'])} | {kb(row['float32']['extra_bytes'])} | {kb(row['inference_bytes'])} "
            f"| {row['mcunetv3']['peak']} |"
        )
    named = [row for row in rows if row["published_kb"] is not None]
    equal = sum(row["their_rule_bytes"] // 1024 == row["published_kb"] for row in named)
    others = [sum(size for name, size in row["differences"].items() if name != "fc") for row in named]
    classifiers = sorted({row["differences"].get("fc", 0) for row in named})
    lines += [
        "",
        f"**Against the publication.** Its rule, worked out from our graphs and rounded down, gives {equal} of its {len(named)} figures.",
        "",
        "**Ours beside its rule, by operator.** The classifier, whose weights it leaves out and a board must hold: "
        f"{', '.join(f'{size:+,} B' for size in classifiers)}. All other operators of an update together: {min(others)} to {max(others)} "
        "B. The JSON has what differs by operator.",
        "",
        "**Planned beside the sum.** The sum is of what lives from forward to backward. The plan has the gradients too, which the sum "
        "leaves out, and lets what is kept lie where the forward pass no longer needs memory: where learning happens in the small maps "
        "at the end and the peak of inference lies in the large ones at the beginning, it takes *less* RAM beside inference than the sum "
        "says; where gradients are wide (float32) or inference takes little beside them (`mcunet-in0`), more.",
        "",
        "## NEq's schemes",
        "",
        "| scheme | published share | of weights | by layers and ratios | share |",
        "|---|--:|--:|--:|--:|",
    ]
    for one in shares:
        weights = f"{one['published_weights']:,} | {one['weights']:,}"
        lines.append(f"| {one['scheme']} | {one['published_share']:.6f} | {weights} | {one['share']:.6f} |")
    same = [one["scheme"] for one in shares if one["published_weights"] == one["weights"]]
    lines += ["", f"Of {shares[0]['of']:,} weights in MobileNetV2's convolutions, as there. Equal to the weight: {', '.join(same)}."]
    for one in shares:
        if one["published_weights"] != one["weights"]:
            lines[-1] += (
                f" {one['scheme']}: its layers, all of them whole, have {one['weights']:,}; the file's share is that of "
                f"{one['published_weights']:,}, in which one digit differs."
            )
    return "\n".join([*lines, ""])


def main() -> None:
    rows = [row for name in ("mcunet-in0", *PUBLISHED) for row in rows_of(name)]
    shares = neq()
    write_atomic(OUT.with_suffix(".json"), json.dumps({"memory": rows, "neq": shares}, indent=1) + "\n")
    write_atomic(OUT.with_suffix(".md"), page(rows, shares))


if __name__ == "__main__":
    main()
