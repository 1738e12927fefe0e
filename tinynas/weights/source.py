"""A source of weights by its name: a .tflite, .safetensors, a PyTorch state dict, ``RUN:ID``, ``zoo:NAME``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinynas.arch import Arch
from tinynas.config import shipped
from tinynas.errors import ModelFileError, RunError, UserError
from tinynas.export.pixels import parse_pixels
from tinynas.files import cache_dir
from tinynas.foreign import what_is
from tinynas.graph import WEIGHTED, Graph, lower
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.quantize.floats import torch_layout
from tinynas.runs import Run
from tinynas.train.quantised import Trained, load_trained
from tinynas.weights.files import read_file
from tinynas.weights.layers import Known, Layer, Norm
from tinynas.weights.states import read_safetensors, read_state_dict

FORMS = "a .tflite, .safetensors, a PyTorch state dict (.pt, .pth), RUN:ID, or zoo:NAME"
ZOO = "zoo:"
#: Weights of zoo networks: beside their descriptions, or in the cache.
_SUFFIXES = (".tflite", ".safetensors", ".pt", ".pth")


def open_source(text: str, *, pixels: str = "auto") -> Known:
    """What the source ``text`` holds: :data:`FORMS`. ``pixels``: what its first layer reads, where the source does not tell.

    Raises UserError subclasses that name the source, what is wrong with it and what to do.
    """
    if text.startswith(ZOO):
        path = zoo_file(text)
    elif (found := run_of(text)) is not None:
        if pixels != "auto":
            raise UserError(f"{text}: pixels {pixels}: what networks of runs read is known", "leave recipe.init_pixels out")
        return _of_run(text, *found)
    else:
        path = Path(text).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ModelFileError(f"{text}: {what}", f"give {FORMS}")
    suffix, kind = path.suffix.lower(), what_is(path)
    if kind.is_tflite:
        return read_file(path, text, pixels)
    if suffix == ".safetensors":
        known = read_safetensors(path, text)
    elif suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl") or "PyTorch" in kind.title or "pickle" in kind.title:
        known = read_state_dict(path, text)
    else:
        raise ModelFileError(f"{text}: is {kind.title or 'no file of weights that is known'}", kind.remedy or f"give {FORMS}")
    if pixels == "auto":
        return known
    first = known.layers[0]
    return _with_pixels(known, pixels, first.columns)


def _with_pixels(known: Known, pixels: str, channels: int) -> Known:
    from dataclasses import replace

    return replace(known, pixels=parse_pixels(pixels, channels), pixels_from="as told")


def zoo_file(text: str) -> Path:
    """The file of weights of ``zoo:NAME``. Raises UserError where the zoo has no such network, or no weights of it are here."""
    name = text.removeprefix(ZOO)
    zoo = shipped("zoo")
    if name not in zoo:
        raise UserError(f"{text}: the zoo has no network of that name", f"known: {', '.join(sorted(zoo))}")
    places = [Path(str(zoo[name])).parent, cache_dir() / "zoo"]
    for place in places:
        for suffix in _SUFFIXES:
            if (path := place / f"{name}{suffix}").is_file():
                return path
    raise ModelFileError(
        f"{text}: the zoo describes {name} and ships no weights of it",
        f"give the path of its file, or put it at {places[-1] / name}.tflite",
    )


def run_of(text: str) -> tuple[Run, str] | None:
    """The run and the network that ``RUN:ID`` names; None where ``text`` is no such name. Raises RunError for one that is not there."""
    name, colon, net_id = text.rpartition(":")
    if not colon or Path(text).exists() or (len(name) == 1 and name.isalpha()):
        return None
    run = Run.open(name)
    return run, run.resolve_id(net_id)


def trained_of(text: str, run: Run, net_id: str) -> tuple[Arch, Trained, str, tuple[str, ...]]:
    """(architecture, network, digest of its weights, class names) of a promoted network. Raises RunError where it was not promoted."""
    arch, path = run.arch(net_id), run.weights_file(net_id)
    if not path.is_file():
        raise RunError(f"{text}: was not promoted: it has no weights of a full training", f"tinynas promote {run.path} {net_id}")
    network = load_trained(lower(arch), path)
    labels = run.env.get("labels", ())
    return arch, network, hashlib.sha256(path.read_bytes()).hexdigest(), tuple(map(str, labels))


def _of_run(text: str, run: Run, net_id: str) -> Known:
    _, network, digest, labels = trained_of(text, run, net_id)
    return Known(text, "a network of a run", digest, layers_of_network(network), labels)


def layers_of_network(network: Trained) -> tuple[Layer, ...]:
    """The layers of a network of ours, with batch norm where it still has one."""
    graph: Graph = network.graph
    floats = fold(network) if isinstance(network, Network) else network.floats()
    layers = []
    for op in graph.ops:
        if not isinstance(op, WEIGHTED):
            continue
        kind = {"conv": "conv", "dw": "dw", "fc": "fc"}[op.kind]
        norm = None
        weight, bias = torch_layout(op, floats.weights[op.name]), floats.biases[op.name]
        if isinstance(network, Network) and network.grid_of(op.name) is None:
            layer, bn = network.named_op(op.name)
            if bn is not None and bn.running_mean is not None and bn.running_var is not None:
                weight = layer.weight.detach().cpu().contiguous().numpy()
                bias = bias * 0 if layer.bias is None else layer.bias.detach().cpu().numpy()
                parts = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
                gamma, beta, mean, var = (t.detach().cpu().numpy().copy() for t in parts)
                norm = Norm(gamma, beta, mean, var, bn.eps)
        layers.append(Layer(op.name, kind, weight.copy(), bias.copy(), norm))  # type: ignore[arg-type]
    return tuple(layers)
