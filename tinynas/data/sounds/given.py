"""Features in files: one signed byte each, as a front end that is not ours made them (MLPerf Tiny's keywords: 49 frames of 10)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinynas.data.assemble import Source, assemble
from tinynas.data.dataset import DataSet
from tinynas.data.folder import read_folder
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import BadInput
from tinynas.data.scan import Measured, scan, sort_out
from tinynas.data.signal import Decoded, Signal
from tinynas.data.walk import Wanted
from tinynas.errors import DataError, printable
from tinynas.files import cache_dir
from tinynas.inputs import Input

FEATURES = Wanted(
    kind="sequence",
    endings=frozenset({".bin"}),
    max_bytes=64 * 1024 * 1024,
    examples=("yes/*.bin", "no/*.bin"),
    parts="files with features are of one class each",
)


def open_features(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The sequences of features below ``root``, of ``options.features``. Raises DataError: all that is wrong with them at once."""
    if options.features is None:
        raise DataError(
            f"{printable(root)}: holds features in .bin files, and nothing says how many there are",
            "say frames x features, such as --set data.features=49x10",
        )
    frames, bins = map(int, options.features.split("x"))
    found = read_folder(root, options, FEATURES)
    store = cache or cache_dir()

    def decode(data: bytes) -> Decoded:
        if len(data) != frames * bins:
            raise BadInput(f"not of {frames * bins} bytes")
        return (np.frombuffer(data, np.int8).astype(np.int16) + 128).astype(np.uint8).reshape(frames, bins, 1)

    def measure(data: bytes) -> Measured:
        decode(data)
        return Measured(frames, bins)

    stamps = [f"{file.stamp}:{options.features}" for file in found.files]
    seen = scan(found.names, stamps, found.read, measure, found.index(store), on_progress, kind="sequence")
    records, rows, bad = sort_out(found.names, found.labels, [file.split for file in found.files], seen)
    source = Source(
        found.name,
        Signal(kind="sequence", version=1, how=options.features, channels=(), decode=decode, fit=_fit),
        records,
        lambda i: found.read(rows[i]),
        bad=bad,
        notes=found.reading.notes,
        faults=found.reading.faults,
        label_order=found.label_order,
        several=found.several,
    )
    return assemble(source, options, seed=seed, cache=store, on_progress=on_progress)


def _fit(sequence: Decoded, network: Input) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    frames, bins, _ = sequence.shape
    if network.front_end is not None:
        raise DataError(
            "a network with a front end hears sounds, and these are features that another front end made",
            "use a network or a space without a front_end",
        )
    if network.shape not in ((frames, bins, 1), (frames, 1, bins)):
        raise DataError(
            f"a network that reads {'x'.join(map(str, network.shape))} cannot read {frames}x{bins} features",
            f"use one of height {frames}, width {bins} and 1 channel, or of width 1 and {bins} channels",
        )
    fitted: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = sequence.reshape(network.shape)
    return fitted
