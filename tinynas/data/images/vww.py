"""Visual Wake Words (Chowdhery et al., arXiv 1906.05721) from COCO: does a person fill at least 0.5 % of the image?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tinynas.data.images.shards import OnPrepare, PrepareOptions, PrepareReport, Row, Shard, prepare
from tinynas.data.split import order_key
from tinynas.errors import DataError
from tinynas.files import cache_dir

SHARD_IMAGES = 2000


class VwwOptions(PrepareOptions):
    """``tinynas data prepare vww``."""

    coco: Path
    """COCO's folder: annotations/instances_*.json and the images, in folders named like train2014 or all in one."""
    annotations: tuple[Path, ...] = ()
    """The instances JSON files; by default all of annotations/."""
    category: str = "person"
    """The class to look for."""
    area: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """A box must cover more than this share of its image to count."""
    minival: Path | None = None
    """Text file with the ids (or file names) of the test images, one a line: the published minival has about 8,000.
    All other images are for training (maxitrain). By default the images of the files named val are the test."""


def prepare_vww(options: VwwOptions, on_progress: OnPrepare | None = None) -> PrepareReport:
    """Label COCO's images by the area rule and keep them, short side ``size``, with a manifest. Resumes by shard.

    Raises DataError: no annotations, an unknown category, ids of no image, a full disk.
    """
    images, labels = _read_coco(options)
    root = options.out or cache_dir() / "prepared" / "vww"
    positive, negative = options.category, f"no_{options.category}"
    parts: list[list[Shard]] = []
    for split in ("train", "test"):
        chosen = sorted((image for image in images if image["split"] == split), key=lambda i: order_key(options.seed, i["file_name"]))
        chunks = [chosen[i : i + SHARD_IMAGES] for i in range(0, len(chosen), SHARD_IMAGES)]
        parts.append(
            [Shard(f"{split}-{i:05d}", _reader(chunk, labels, positive, negative), 0, len(chunk)) for i, chunk in enumerate(chunks)]
        )
    if not parts[1]:
        raise DataError(
            f"{options.coco}: no test images",
            "pass --minival with a list of ids, or add the annotations of val2014 beside those of train2014",
        )
    listing = hashlib.sha256("\n".join(f"{i['file_name']} {i['split']} {labels.get(i['key'], 0):d}" for i in images).encode()).hexdigest()
    identity = {"size": options.size, "jpeg_quality": options.jpeg_quality, "seed": options.seed, "area": options.area, "images": listing}
    report = prepare(
        "vww",
        (negative, positive),
        parts,
        options,
        root,
        identity=identity,
        order=[[[shard.key for shard in part]] for part in parts],
        crop=False,
        on_progress=on_progress,
    )
    if options.minival is None:
        report.notes.append("the test images are those of the val annotations: pass --minival for the published minival")
    return report


def _reader(chunk: Sequence[Mapping[str, Any]], labels: Mapping[str, bool], positive: str, negative: str) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        for image in chunk:
            try:
                data: bytes | None = image["path"].read_bytes()
            except OSError:
                data = b""  # counted as a bad image by its decoder
            yield Row(image["file_name"], data, positive if labels.get(image["key"]) else negative, image["split"])

    return rows


def _read_coco(options: VwwOptions) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """All images (with path, split, key) and, by key, whether the category fills enough of it."""
    if not options.coco.is_dir():
        raise DataError(f"{options.coco}: is no folder", "give COCO's folder, with annotations/ and images in it")
    files = options.annotations or tuple(sorted((options.coco / "annotations").glob("instances_*.json")))
    if not files:
        raise DataError(f"{options.coco}: holds no annotations/instances_*.json", "unpack COCO's annotations there, or pass --annotations")
    images: dict[str, dict[str, Any]] = {}
    found: dict[str, bool] = {}
    categories: set[str] = set()
    for file in files:
        document = _load(file)
        ids = {c["id"] for c in document["categories"] if c["name"] == options.category}
        categories |= {c["name"] for c in document["categories"]}
        subset = file.stem.removeprefix("instances_")
        # COCO numbers images across its files, yet two files may describe the same image: the first one counts.
        mine: dict[int, dict[str, Any]] = {}
        for image in document["images"]:
            key = str(image["id"])
            if key in images:
                continue
            path = _find(options.coco, subset, image["file_name"])
            split = "test" if re.search(r"val", subset) else "train"
            images[key] = mine[image["id"]] = {**image, "key": key, "path": path, "split": split}
        for box in document["annotations"]:
            image = mine.get(box["image_id"])
            if image is None or box["category_id"] not in ids:
                continue
            _, _, width, height = box["bbox"]
            if width * height > options.area * image["width"] * image["height"]:
                found[image["key"]] = True
    if options.category not in categories:
        raise DataError(f"{options.coco}: there is no category {options.category!r}", f"categories: {', '.join(sorted(categories)[:20])}")
    if not any(image["path"].is_file() for image in images.values()):
        example = next(iter(images.values()))["file_name"] if images else "any image"
        raise DataError(f"{options.coco}: {example} is nowhere in it", "unpack the images into train2014/ and val2014/ beside annotations/")
    if options.minival is not None:
        _mark_minival(options.minival, images)
    return list(images.values()), found


def _load(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
        for key in ("images", "annotations", "categories"):
            if not isinstance(document[key], list):
                raise TypeError(f"{key} is no list")
        return dict(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is no COCO instances file: {error}", "give instances_train2014.json or the like") from None


def _find(coco: Path, subset: str, name: str) -> Path:
    for folder in (coco / subset, coco / "images" / subset, coco / "images", coco):
        if (folder / name).is_file():
            return folder / name
    return coco / subset / name


def _mark_minival(path: Path, images: dict[str, dict[str, Any]]) -> None:
    try:
        words = {line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", "give a text file with one image id a line") from None
    missing = set(words)
    for key, image in images.items():
        number = re.search(r"(\d+)\.\w+$", image["file_name"])
        names = {key, image["file_name"], *((str(int(number[1])),) if number else ())}
        image["split"] = "test" if names & words else "train"
        missing -= names
    if len(missing) == len(words):
        raise DataError(
            f"{path}: none of its {len(words)} ids is an image of these annotations", "one id or file name a line, such as 25593"
        )
