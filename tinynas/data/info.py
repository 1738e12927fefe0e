"""What a data set holds: counts, sizes, groups, duplicates, leaks as numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tinynas.data.dataset import DataSet
from tinynas.data.groups import shown
from tinynas.errors import counted

FEW = 50
"""A class with fewer training images than this gets a warning."""
SHOWN = 5
"""So many of those are named."""


def describe(data: DataSet) -> dict[str, Any]:
    """Everything known about ``data`` without training: plain data for ``data info --json``.

    Keys: name, kind, labels, fingerprint, images (their number, whatever the kind), splits (class counts of each), sizes
    (height x width, in pixels for images; seconds and rates of sounds; None without records), imbalance (largest class over
    smallest, in training; None without training records), groups (None where nothing is known of them), bad, duplicates, leaks,
    attributes, notes, warnings.
    """
    splits = {split: data.counts(split) for split in data.members}
    train = list(splits["train"].values())
    reasons = Counter(entry.reason for entry in data.bad)
    return {
        "name": data.name,
        "kind": data.signal.kind,
        "labels": list(data.labels),
        "fingerprint": data.fingerprint,
        "images": len(data.records),
        "splits": splits,
        "sizes": _sizes(data) if data.records else None,
        "imbalance": max(train) / max(1, min(train)) if train else None,
        "groups": _groups(data),
        "bad": {"count": len(data.bad), "reasons": dict(reasons), "images": [[b.name, b.reason] for b in data.bad]},
        "duplicates": data.duplicates,
        "leaks": [{split: list(names) for split, names in leak.splits.items()} for leak in data.leaks],
        "attributes": {name: int((values == 1).sum()) for name, values in data.attributes.items()},
        "notes": list(data.notes),
        "warnings": warnings(data),
    }


def _sizes(data: DataSet) -> dict[str, Any]:
    sides = np.array([record.size for record in data.records])
    if not data.signal.sized:
        lengths = sides[:, 0] / 1000
        rates = Counter(int(rate) for rate in sides[:, 1])
        seconds = {
            "min": float(lengths.min()),
            "median": float(np.median(lengths)),
            "max": float(lengths.max()),
            "sum": float(lengths.sum()),
        }
        return {"seconds": seconds, "rates": {str(rate): count for rate, count in rates.most_common()}}
    short = sides.min(axis=1)
    shapes = Counter((int(h), int(w)) for h, w in sides)
    height, width = data.native_size
    return {
        "native": {"height": height, "width": width},
        "short_side": {"min": int(short.min()), "median": int(np.median(short)), "max": int(short.max())},
        "most_common": [{"height": h, "width": w, "images": n} for (h, w), n in shapes.most_common(3)],
        "square": float((sides[:, 0] == sides[:, 1]).mean()),
    }


def _groups(data: DataSet) -> dict[str, Any] | None:
    if data.groups is None:
        return None
    sizes = data.groups.sizes()
    largest = int(sizes.argmax())
    return {
        "count": len(data.groups),
        "splits": {split: len(set(data.groups.of[rows].tolist())) for split, rows in data.members.items()},
        "largest": {"group": shown(data.groups.names[largest]), "images": int(sizes[largest])},
        "in_several_splits": [{"group": straddle.group, "splits": straddle.splits} for straddle in data.straddles],
    }


def warnings(data: DataSet) -> list[str]:
    """What a careful person would want to know before training on ``data``."""
    said, kind = [], data.signal.kind
    train = data.counts("train")
    small = sorted(((count, label) for label, count in train.items() if count < FEW))
    if len(small) == 1:
        count, label = small[0]
        said.append(f"class {label} has {counted(count, f'training {kind}')}: accuracy on it will be luck")
    elif small:
        fewest = ", ".join(f"{label}: {count}" for count, label in small[:SHOWN]) + (" ..." if len(small) > SHOWN else "")
        said.append(
            f"{len(small):,} of {len(train):,} classes have fewer than {FEW} training {kind}s "
            f"(the fewest: {fewest}): accuracy on them will be luck"
        )
    if train and max(train.values()) > 10 * max(1, min(train.values())):
        said.append("classes are more than 10 to 1 unbalanced: compare balanced accuracy")
    for split in ("val", "test"):
        total = len(data.members[split])
        if 0 < total < 400:
            said.append(f"{split} has {total} {kind}s: an accuracy of 90 % is known to within {196 * (0.09 / total) ** 0.5:.1f} points")
    leaked = [leak for leak in data.leaks if "train" in leak.splits]
    if leaked and data.options.leaks == "keep":
        said.append(f"{len(leaked)} training {kind}s are in validation or test too: its accuracy is too good; --set data.leaks=drop")
    if data.straddles and data.options.leaks == "keep":
        said.append(f"{len(data.straddles)} groups are in more than one split: accuracy on them is too good; --set data.leaks=drop")
    if data.bad and len(data.bad) > 0.01 * (len(data.bad) + len(data.records)):
        said.append(f"{100 * len(data.bad) / (len(data.bad) + len(data.records)):.0f} % of the {kind}s cannot be used")
    said += data.signal.advice(data.records)
    return said
