"""A data set elsewhere: what training must know of it as plain bytes. Its inputs are files of the cache, which are brought there."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Never

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tinynas.data.dataset import DataSet
from tinynas.data.groups import Groups
from tinynas.data.options import DataOptions
from tinynas.data.records import Record
from tinynas.data.signal import Signal, Waves
from tinynas.errors import DataError
from tinynas.inputs import Input
from tinynas.recipe import Augment

#: What of a signal is plain; its functions stay where the records are.
_PLAIN = ("kind", "version", "how", "unit", "sized")


class NotHereError(DataError):
    """Inputs that were not brought to this machine, or were taken away again."""


def pack(data: DataSet) -> bytes:
    """``data`` as plain bytes (safetensors), equal for equal data: all that training and its scores read but the inputs themselves."""
    signal = data.signal
    document = {
        "name": data.name,
        "signal": {name: getattr(signal, name) for name in _PLAIN} | {"channels": signal.channels, "waves": signal.waves is not None},
        "labels": data.labels,
        "fingerprint": data.fingerprint,
        "records": {name: [getattr(record, name) for record in data.records] for name in Record._fields},
        "options": data.options.model_dump(mode="json"),
        "groups": None if data.groups is None else data.groups.names,
        "splits": list(data.members),
        "attributes": list(data.attributes),
    }
    arrays: dict[str, NDArray[Any]] = {"targets": data.targets}
    arrays |= {f"split {number}": rows for number, rows in enumerate(data.members.values())}
    arrays |= {f"attribute {number}": values for number, values in enumerate(data.attributes.values())}
    if data.groups is not None:
        arrays["groups"] = data.groups.of
    arrays["document"] = np.frombuffer(json.dumps(document, sort_keys=True).encode(), np.uint8)
    return safetensors.numpy.save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


def unpack(content: bytes, cache: Path) -> DataSet:
    """The data set that :func:`pack` wrote, with its inputs under ``cache``; those that are not there are a :class:`NotHereError`.

    What was found while it was opened (notes, bad records, leaks, whole recordings) stays behind. Raises DataError where it is none.
    """
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
        document = json.loads(arrays["document"].tobytes())
        plain, columns = document["signal"], {name: document["records"][name] for name in Record._fields}
        columns["size"] = list(map(tuple, columns["size"]))
        signal = Signal(
            **{name: plain[name] for name in _PLAIN},
            channels=tuple(plain["channels"]),
            decode=_elsewhere,
            fit=_elsewhere,
            waves=Waves(*[_elsewhere] * len(fields(Waves))) if plain["waves"] else None,
        )
        return DataSet(
            name=document["name"],
            signal=signal,
            labels=tuple(document["labels"]),
            fingerprint=document["fingerprint"],
            notes=(),
            records=tuple(Record._make(facts) for facts in zip(*columns.values(), strict=True)),
            targets=arrays["targets"],
            members={name: arrays[f"split {number}"] for number, name in enumerate(document["splits"])},
            bad=(),
            leaks=(),
            straddles=(),
            duplicates=0,
            read=_elsewhere,
            options=DataOptions.model_validate(document["options"]),
            cache=cache,
            groups=None if document["groups"] is None else Groups(tuple(document["groups"]), arrays["groups"]),
            attributes={name: arrays[f"attribute {number}"] for number, name in enumerate(document["attributes"])},
        )
    except (ValueError, LookupError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"what was sent is no data set: {error}", "driver and workers must be of one version") from None


def files_of(data: DataSet, network: Input, augment: Augment) -> list[Path]:
    """The cache's files that training and validating a network with the input ``network`` reads; made where they are not there yet."""
    found: list[NDArray[np.uint8]] = []
    for name in ("train", "val"):
        split = data.read_by(network, name)
        found.append(split.inputs)
        if name == "train" and split.anew is not None and augment.kind != "none":
            found += [split.anew.variant(augment.sound, number) for number in range(augment.sound.variants)]
    # An empty split is no file.
    return [Path(str(array.filename)) for array in found if isinstance(array, np.memmap)]


def _elsewhere(*_: Any) -> Never:
    raise NotHereError("inputs that training reads are not on this machine", "they were taken out of its cache; run the search again")
