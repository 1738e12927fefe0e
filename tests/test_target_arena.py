"""The 32-bit arena that is promised beside the one that TFLM uses on an emulated Cortex-M4: networks of the package, to the byte."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest

from tinynas import api
from tinynas.cost import tail
from tinynas.cost.tflite import parse_model
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower
from tinynas.target.probe import Job, run_probe

if TYPE_CHECKING:
    from thin_tflm import Emulated

#: (tree, kernels) -> the runtime that promises, and by how many bytes that may be more than what is used. Structures of the newest
#: tree are up to 32 B smaller than those of the versions before it, of which the largest is promised.
PROMISED = {("newest", "cmsis-nn"): ("tflm-cmsis-nn", {16, 32}), ("newest", "reference"): ("tflm", {16})}
#: Fields of the 32-bit layout that these networks' tails hang on (variables and second subgraphs are in none of them).
IN_USE = {field.name for field in fields(tail.Layout)} - {"opening", "resources", "subgraph"}


def models() -> list[bytes]:
    """Networks of the zoo and random ones of the tiny space."""
    space, rng = api.load_space("tiny"), random.Random(1)
    archs = [api.load_net("mcunet-tiny2"), api.load_net("mcunet-vww0")]
    archs += [space.decode(space.draw(lambda _name, count: rng.randrange(count)), 2) for _ in range(12)]
    return [dummy_file(lower(arch)) for arch in archs]


@pytest.mark.xdist_group("target")
@pytest.mark.parametrize(("tree", "kernels"), [("newest", "cmsis-nn"), pytest.param("newest", "reference", marks=pytest.mark.slow)])
def test_what_is_promised_is_what_is_used(emulated: Emulated, tree: str, kernels: str) -> None:
    thin = emulated(tree, kernels)
    files = models()
    runtime, allowed = PROMISED[tree, kernels]
    answers = run_probe(thin.probe, thin.core, [Job(file) for file in files])
    used = [answer.arena_bytes for answer in answers]
    assert None not in used, [answer.refused for answer in answers]
    promised = [parse_model(file).estimate(runtime).sram_bytes for file in files]
    more = [promise - (got or 0) for promise, got in zip(promised, used, strict=True)]
    assert set(more) <= allowed, dict(zip(promised, used, strict=True))


@pytest.mark.parametrize("runtime", sorted(runtime for runtime, _ in PROMISED.values()))
def test_a_byte_more_in_the_tail_shows(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above compares hangs on each size: where a byte is hidden by alignment in one network, it shows in another."""
    files = [parse_model(file) for file in models()]
    before = [file.estimate(runtime).sram_bytes for file in files]
    layout = tail.LAYOUTS["mcu"]
    for name in sorted(IN_USE):
        monkeypatch.setitem(tail.LAYOUTS, "mcu", replace(layout, **{name: getattr(layout, name) + 1}))
        assert before != [file.estimate(runtime).sram_bytes for file in files], name
