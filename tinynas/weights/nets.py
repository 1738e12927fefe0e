"""The network of a model file as a PyTorch module."""

from __future__ import annotations

import torch

from tinynas.errors import ModelFileError
from tinynas.model import Network
from tinynas.weights.layers import FileNet, Known


def network_of(known: Known) -> Network:
    """The float network of a model file, in evaluation mode; it reads (pixel - mean) / std of ``known.pixels``.

    Raises ModelFileError, which names the operator, where it could not be rebuilt.
    """
    if known.net is None:
        raise ModelFileError(
            f"{known.title}: the network itself cannot be rebuilt: {known.why_no_net}",
            "its layers can be taken with --init; for a network or a teacher give another file, or RUN:ID",
        )
    return build_network(known.net)


def build_network(net: FileNet) -> Network:
    """``net`` with its weights, in evaluation mode."""
    network = Network(net.graph)
    with torch.no_grad():
        for name, layer in net.layers.items():
            module, _ = network.named_op(name)
            module.weight.copy_(torch.from_numpy(layer.weight))
            assert module.bias is not None
            module.bias.copy_(torch.from_numpy(layer.bias))
    return network.eval()
