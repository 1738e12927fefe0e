"""Layers out of a state: tensors by name, as PyTorch's modules or safetensors hold them. Pickles run no code here."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from tinynas.errors import ModelFileError
from tinynas.model import BN_EPS
from tinynas.weights.layers import OURS, Floats, Known, Layer, Norm

#: Words of names that run first, and last; states of safetensors are sorted by name.
_FIRST = re.compile(r"^(stem|first_conv|conv_stem|features\.0|conv1|input)\b|^(stem|first_conv)")
_LATE = re.compile(r"^(head|feature_mix_layer|conv_head|last)")
_LAST = re.compile(r"^(fc|classifier|logits|output|linear)")
#: The order of the parts of a block.
_PARTS = (
    re.compile(r"widen"),
    re.compile(r"look"),
    re.compile(r"expand|inverted_bottleneck"),
    re.compile(r"dw|depth"),
    re.compile(r"squeeze"),
    re.compile(r"gate|excite"),
    re.compile(r"project|point"),
)
_WRAPPED = ("state_dict", "model_state_dict", "model", "net", "ema", "weights")


def read_safetensors(path: Path, title: str) -> Known:
    """The layers in a .safetensors file. Raises ModelFileError for what is broken or holds none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("tinynas")
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys(), key=_place)}
        about = json.loads(told) if told else {}
        labels = json.loads(about["labels"]) if isinstance(about, dict) and "labels" in about else []
        if not isinstance(labels, list):
            raise ValueError("its labels are no list")
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelFileError(f"{title}: cannot be read: {error}", "copy or download the file again") from None
    ours = "" if about else "assumed: nothing in the file tells; say it with recipe.init_pixels"
    return _known(tensors, title, "weights (.safetensors)", path, tuple(map(str, labels)), ours)


def read_state_dict(path: Path, title: str) -> Known:
    """The layers in a PyTorch state dict. Raises ModelFileError for a pickle that holds anything but tensors: it is not run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles in another protocol: what is wrong with them is said below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"(?:GLOBAL|global|class|function) ['\"]?([\w.]+)", str(error))
        named = f" (it asks for {what[1]})" if what else ""
        raise ModelFileError(
            f"{title}: is a pickle that would run code or holds more than tensors{named}; it was not run",
            "save the weights alone, where you trust them: torch.save(model.state_dict(), FILE), or as .safetensors",
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{title}: cannot be read as a PyTorch state dict: {problem}", "copy or save the file again") from None
    for _ in range(3):
        if isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
            found = next((found[key] for key in _WRAPPED if isinstance(found.get(key), Mapping)), found)
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)} if isinstance(found, Mapping) else {}
    tell = "assumed: a state dict does not tell; say it with recipe.init_pixels"
    return _known(tensors, title, "a PyTorch state dict", path, (), tell)


def _known(tensors: Mapping[str, Tensor], title: str, what: str, path: Path, labels: tuple[str, ...], assumed: str) -> Known:
    layers = layers_of(tensors)
    if not layers:
        raise ModelFileError(f"{title}: holds no weights of convolutions", "give the state of a convolutional network")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Known(title, what, digest, layers, labels, OURS, assumed or "as networks of tinynas")


def layers_of(tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The layers in ``tensors``, in their order: each weight of two or four dimensions, with the batch norm that belongs to it."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        key = key.removeprefix("module.")
        if key.startswith(("weights.", "biases.")):  # trained on int8 grids: weights and biases by operator
            part, _, name = key.partition(".")
            modules.setdefault(name, {})["weight" if part == "weights" else "bias"] = tensor
        elif not key.startswith(("grid.", "grids.")):
            name, _, part = key.rpartition(".")
            modules.setdefault(name, {})[part] = tensor
    weighted = {name: parts for name, parts in modules.items() if "weight" in parts and parts["weight"].ndim in (2, 4)}
    norms = {name: parts for name, parts in modules.items() if {"running_mean", "running_var"} <= parts.keys()}
    return tuple(
        _layer(name, parts, norm)
        for name, parts, norm in ((name, parts, _norm(name, parts, weighted, norms)) for name, parts in weighted.items())
    )


def _norm(
    name: str, parts: Mapping[str, Tensor], weighted: Mapping[str, Mapping[str, Tensor]], norms: Mapping[str, Mapping[str, Tensor]]
) -> Norm | None:
    places = list(weighted)
    for at, found in norms.items():
        if len(found["running_mean"]) != len(parts["weight"]):
            continue
        # The batch norm belongs to the layer whose name begins most like its own; of several, to that just before it.
        fits = [other for other in places if len(weighted[other]["weight"]) == len(found["running_mean"])]
        longest = max(_common(other, at) for other in fits)
        nearest = [other for other in fits if _common(other, at) == longest]
        before = [other for other in nearest if _place(other) < _place(at)]
        if (before[-1] if before else nearest[0]) != name:
            continue
        mean, var = (_floats(found[key]) for key in ("running_mean", "running_var"))
        gamma = _floats(found["weight"]) if "weight" in found else np.ones_like(mean)
        beta = _floats(found["bias"]) if "bias" in found else np.zeros_like(mean)
        return Norm(gamma, beta, mean, var, BN_EPS)
    return None


def _layer(name: str, parts: Mapping[str, Tensor], norm: Norm | None) -> Layer:
    weight = _floats(parts["weight"])
    bias = _floats(parts["bias"]) if "bias" in parts else np.zeros(len(weight), np.float32)
    # A kernel over one channel whose rows are as many as a batch norm or the layer before it gave is depthwise; so is any with 1 column
    # but that which reads a gray image, which is told by its place.
    kind: Any = "fc" if weight.ndim == 2 else "dw" if weight.shape[1] == 1 and not _FIRST.match(name) else "conv"
    return Layer(name, kind, weight, bias, norm)


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to(torch.float32).contiguous().numpy().copy()


def _common(one: str, other: str) -> int:
    parts = list(zip(one.split("."), other.split("."), strict=False))
    return next((i for i, (a, b) in enumerate(parts) if a != b), len(parts))


def _place(name: str) -> tuple[Any, ...]:
    """By which names are sorted in the order in which layers run."""
    bare = name.removeprefix("module.").removeprefix("weights.").removeprefix("biases.")
    group = 0 if _FIRST.match(bare) else 3 if _LAST.match(bare) else 2 if _LATE.match(bare) else 1
    part = next((i for i, word in enumerate(_PARTS) if word.search(bare)), len(_PARTS))
    numbers = re.split(r"(\d+)", bare)
    block = tuple(int(text) for text in numbers[1::2])
    return group, block[:2], part, tuple((0, int(text), "") if text.isdigit() else (1, 0, text) for text in numbers)
