"""Which split a name means (``Train``, ``training_set``, ``test_images``, ``val2017``, ``seg_test``), and which folders are no class."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

Word = Literal["train", "val", "test", "eval"]
"""``eval`` is the test where there is none, else validation: people mean both by it."""


def words(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


WORDS: dict[str, Word] = {
    **dict.fromkeys(("train", "training", "trn", "trainval", "learn", "learning"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "devel", "development", "vld", "vali"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
    **dict.fromkeys(("eval", "evaluation", "evaluate"), "eval"),
}
FILLERS = words(
    "set sets data dataset datasets db image images img imgs picture pictures photo photos pic pics jpg jpeg png bmp split splits "
    "folder dir directory part subset sample samples raw resized cropped original full final new clean x y"
)
"""Words beside a split's name that change nothing about it."""
NOTHING = words("a an the of for and in")
UNLABELLED = words("pred predict prediction predictions unlabeled unlabelled unlab submission inference unsup unsupervised")
HOLDERS = FILLERS | words("jpegimages pngimages frames all files")
"""Folders called so hold images, and are no class where they are alone."""
ANNOTATIONS = words(
    "annotation annotations label labels mask masks trimap trimaps xml xmls gt ground truth groundtruth segmentation segmentations "
    "segmentationclass segmentationobject bbox bboxes boxes imagesets meta metadata devkit"
)
"""Folders called so lie beside a folder of images and say something about them."""
_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")


class Part(NamedTuple):
    """What a name says about a split."""

    word: Word
    rest: tuple[str, ...]
    """What else it says: nothing in ``train_images``, ``("seg",)`` in ``seg_train``."""


def pieces(name: str) -> list[str]:
    """The words of ``name`` in small letters; digits and signs part them, and small letters from capitals."""
    found: list[str] = []
    for piece in _PIECES.findall(name):
        lower = piece.lower()
        # "trainset", "testdata", "valimages": two words without a gap
        for word in sorted(WORDS, key=len, reverse=True):
            if lower.startswith(word) and lower[len(word) :] in FILLERS:
                found += [word, lower[len(word) :]]
                break
        else:
            found.append(lower)
    return found


def part_of(name: str) -> Part | None:
    """The split that ``name`` means, None where it names none or several."""
    found = pieces(name)
    if found[:2] in (["hold", "out"], ["held", "out"]):
        found[:2] = ["holdout"]
    meant = {WORDS[piece] for piece in found if piece in WORDS}
    if meant == {"train", "val"}:  # train_val: what a test split is apart from
        meant = {"train"}
    if len(meant) != 1:
        return None
    return Part(meant.pop(), tuple(piece for piece in found if piece not in WORDS and piece not in FILLERS and piece not in NOTHING))


def resolve(word: Word, others: Collection[str]) -> str:
    """The split of ``word`` where splits of ``others`` are there too."""
    if word != "eval":
        return word
    return "test" if "test" not in others else "val"


def value_of(text: str) -> str | None:
    """The split that a cell of a table names, None where it names none."""
    part = part_of(text)
    return None if part is None or part.rest else resolve(part.word, ())


def only(name: str, known: Collection[str]) -> bool:
    """Whether ``name`` says nothing but ``known``."""
    found = [piece for piece in pieces(name) if piece not in NOTHING]
    return bool(found) and all(piece in known for piece in found)
