"""A trained network that can be learned on from: of a run, of a .tflite, or of an architecture with weights from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinynas.adapt.tasks import Learnable
from tinynas.arch import Arch, load_arch
from tinynas.errors import UserError
from tinynas.export.pixels import AUTO
from tinynas.foreign import what_is
from tinynas.graph import Graph, lower
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.recipe import Recipe
from tinynas.weights.begin import begin
from tinynas.weights.source import open_source, run_of, trained_of


def graph_of(net: str) -> Graph:
    """The graph of ``net`` without its weights: ``RUN:ID``, a .tflite, an arch file or a zoo name. Raises UserError subclasses."""
    if (found := run_of(net)) is not None:
        return lower(found[0].arch(found[1]))
    if _is_tflite(net):
        known = open_source(net)
        if known.net is None:
            raise UserError(f"{net}: the network cannot be rebuilt: {known.why_no_net}", "give RUN:ID, or an arch file with --init")
        return known.net.graph
    return lower(load_arch(net))


def check_said(net: str, init: str | None, pixels: str) -> None:
    """Raise UserError where ``init`` or ``pixels`` would not be read, because ``net`` tells it itself."""
    of_run = run_of(net) is not None
    if init is not None and (of_run or _is_tflite(net)):
        raise UserError(f"--init: {net} has weights of its own", "leave --init out, or give an arch file")
    if pixels != AUTO and of_run:
        raise UserError(f"--pixels {pixels}: what networks of runs read is known", "leave --pixels out")


def _is_tflite(net: str) -> bool:
    return Path(net).is_file() and what_is(net).is_tflite


def open_learnable(net: str, *, init: str | None = None, pixels: str = "auto", images: np.ndarray | None = None) -> Learnable:
    """The trained network ``net``: ``RUN:ID``, a .tflite, or an arch file or zoo name with the weights ``init``.

    ``images``: uint8 (N, H, W, C) on which batch norm is measured where weights come without it. Raises UserError subclasses where
    there is no such network, or no weights of it.
    """
    check_said(net, init, pixels)
    if (found := run_of(net)) is not None:
        _, network, digest, labels = trained_of(net, *found)
        floats = fold(network) if isinstance(network, Network) else network.floats()
        return Learnable(net, floats, _named(labels, floats.graph), digest, found[0])
    tflite = _is_tflite(net)
    if not tflite and init is None:
        load_arch(net)  # a name that is nothing is said first
        raise UserError(f"{net}: is a network without weights", "give RUN:ID or a .tflite, or its weights with --init SOURCE")
    known = open_source(net if tflite else str(init), pixels=pixels)
    graph = graph_of(net) if tflite else _sized(load_arch(net), known.classes)
    assert images is not None
    begun = begin(graph, known, known.labels, images, Recipe(), seed=0)
    new = [row.layer for row in begun.rows if row.fate != "taken"]
    if new:
        raise UserError(
            f"{net}: {known.title} has no weights for {', '.join(new[:4])}{' and more' if len(new) > 4 else ''}",
            "give the weights of this very network, or train it first: tinynas promote --init",
        )
    trained = Network(graph)
    trained.load_state_dict(dict(begun.start.weights))
    return Learnable(net, fold(trained.eval()), _named(known.labels, graph), known.sha256, None, begun.notes)


def _sized(arch: Arch, classes: int) -> Graph:
    return lower(arch.with_classes(max(2, classes)))


def _named(labels: Sequence[str], graph: Graph) -> tuple[str, ...]:
    return tuple(labels) if len(labels) == graph.classes else tuple(f"output {number}" for number in range(graph.classes))
