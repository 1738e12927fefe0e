"""Quantisation in the loop: files that hold a network trained on its int8 grids, and either kind of network from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tinynas.errors import RunError
from tinynas.graph import Graph
from tinynas.model import Network, load_weights, read_tensors, write_tensors
from tinynas.quantize import QuantOptions, TensorQuant, fold
from tinynas.quantize.qat import QatNetwork

Trained = Network | QatNetwork
"""What a training ends in: a float network with batch norm, or a folded one on int8 grids."""

SCALES, ZERO_POINTS, MOST_BITS = "grid.scales", "grid.zero_points", "grid.most_bits"


def state_of(network: Trained) -> dict[str, Tensor]:
    """All tensors that make ``network`` again, the grids of its activations and of weights of few bits included."""
    tensors: dict[str, Tensor] = dict(network.state_dict())
    if isinstance(network, QatNetwork):
        tensors[SCALES] = torch.tensor([quant.scale for quant in network.tensors], dtype=torch.float64)
        tensors[ZERO_POINTS] = torch.tensor([quant.zero_point for quant in network.tensors], dtype=torch.int64)
        if network.options.bits < 8:
            tensors[MOST_BITS] = torch.tensor(network.options.bits, dtype=torch.int64)
    return tensors


def weights_in(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """What of :func:`state_of`'s tensors a module's ``load_state_dict`` takes."""
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return {key: value for key, value in found.items() if key not in (SCALES, ZERO_POINTS, MOST_BITS)}


def grids_in(tensors: Mapping[str, Tensor], prefix: str = "") -> tuple[TensorQuant, ...] | None:
    """The activation grids in what :func:`state_of` gave, or None where the network is a float one."""
    if prefix + SCALES not in tensors:
        return None
    pairs = zip(tensors[prefix + SCALES].tolist(), tensors[prefix + ZERO_POINTS].tolist(), strict=True)
    return tuple(TensorQuant(scale, zero_point) for scale, zero_point in pairs)


def on_grids(graph: Graph, grids: tuple[TensorQuant, ...], most_bits: int = 8) -> QatNetwork:
    """A network of ``graph`` on these activation grids, its weights, of the graph's bits and at most ``most_bits``, still to be loaded."""
    return QatNetwork(fold(Network(graph)), grids, QuantOptions(weights="max", bits=most_bits))


def save_trained(network: Trained, path: Path, metadata: Mapping[str, str]) -> None:
    """Write ``network`` with ``metadata``, atomically. Raises DiskError on a full disk."""
    write_tensors(state_of(network), path, metadata)


def load_trained(graph: Graph, path: Path) -> Trained:
    """The network that :func:`save_trained` wrote, in evaluation mode. Raises RunError for a missing, damaged or foreign file."""
    tensors, _ = read_tensors(path)
    try:
        grids = grids_in(tensors)
        if grids is None:
            return load_weights(graph, path)
        network = on_grids(graph, grids, int(tensors[MOST_BITS]) if MOST_BITS in tensors else 8)
        network.load_state_dict(weights_in(tensors))
    except (RuntimeError, ValueError, LookupError, TypeError) as error:  # TypeError: a grid of one number
        problem = (str(error).splitlines() or [""])[-1].strip()
        raise RunError(f"{path}: does not hold this network's weights: {problem}", "promote the network again") from None
    network.eval()
    return network


def calibration_rows(n: int, most: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of at most ``most`` of ``n`` training images, sorted, drawn by ``seed``."""
    return np.sort(np.random.default_rng((seed, 0xCA11)).permutation(n)[:most])
