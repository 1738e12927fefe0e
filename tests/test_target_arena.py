"""The 32-bit arena that is promised beside the one that TFLM uses on an emulated Cortex-M4: networks of the package, to the byte."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from op_files import chain

from tinynas import api
from tinynas.arch import Arch, ConvLayer, MBConv, Separable
from tinynas.cost import tail
from tinynas.cost.kernel import Family
from tinynas.cost.runtimes import runtime_of_tree
from tinynas.cost.tflite import parse_model
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower, padded_as_same
from tinynas.target.library import Kernels
from tinynas.target.probe import Job, run_probe

if TYPE_CHECKING:
    from thin_tflm import Emulated

#: Operators whose options leave the tail without a spare byte where kernels' buffers begin on 16: a byte more is 16 there.
FULL = ("CONV_2D ADD ADD", "CONV_2D CONV_2D FULLY_CONNECTED", "CONV_2D ADD FULLY_CONNECTED FULLY_CONNECTED")
#: Fields of the 32-bit layout that these networks' tails hang on (variables and second subgraphs are in none of them).
IN_USE = {field.name for field in fields(tail.Layout)} - {"opening", "resources", "subgraph"}


def models() -> list[bytes]:
    """Networks of the zoo, random ones of the tiny space, dilated ones, and a few operators behind one another."""
    space, rng = api.load_space("tiny"), random.Random(1)
    archs = [api.load_net("mcunet-tiny2"), api.load_net("mcunet-vww0")]
    archs += [space.decode(space.draw(lambda _name, count: rng.randrange(count)), 2) for _ in range(12)]
    archs += [dilated(causal) for causal in (False, True)]
    return [dummy_file(padded_as_same(lower(arch))) for arch in archs] + [chain(kinds) for kinds in FULL]


def dilated(causal: bool) -> Arch:
    """Dense and depthwise kernels whose taps are apart, of which CMSIS-NN computes the depthwise ones with another kernel than others."""
    blocks = (
        Separable(out=16, kernel=(5, 1), dilation=2),
        MBConv(out=16, kernel=(3, 1), dilation=4, expand=2, residual=True),
        Separable(out=16, kernel=(5, 1)),
        ConvLayer(out=16, kernel=(3, 1), dilation=3),
    )
    return Arch(height=49, width=1, channels=10, classes=4, causal=causal, stem=ConvLayer(out=16, kernel=(3, 1)), blocks=blocks)


@pytest.mark.xdist_group("target")
@pytest.mark.parametrize(
    ("tree", "kernels"), [("newest", "cmsis-nn"), ("arduino", "cmsis-nn"), pytest.param("newest", "reference", marks=pytest.mark.slow)]
)
def test_what_is_promised_is_what_is_used(emulated: Emulated, tree: str, kernels: Kernels) -> None:
    thin = emulated(tree, kernels)
    files = models()
    runtime = runtime_of_tree(kernels, arduino=thin.tree.arduino)
    answers = run_probe(thin.probe, thin.core, [Job(file) for file in files])
    used = [answer.arena_bytes for answer in answers]
    assert None not in used, [answer.refused for answer in answers]
    pinned, plain = (
        [parse_model(file).estimate(name, core="cortex-m4") for file in files] for name in (runtime, runtime.partition("@")[0])
    )
    assert [cost.head_bytes + cost.tail_bytes for cost in pinned] == used
    assert all(cost.sram_bytes >= exact.sram_bytes >= (got or 0) for cost, exact, got in zip(plain, pinned, used, strict=True))


def test_a_byte_more_in_the_tail_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above compares hangs on each byte of each size, in both trees."""
    files = [parse_model(file) for file in models()]
    families: tuple[tuple[bool, Family], ...] = ((False, "mcu"), (True, "arduino"))
    for arduino, family in families:
        runtime, layout = runtime_of_tree("cmsis-nn", arduino=arduino), tail.LAYOUTS[family]
        before = [file.estimate(runtime, core="cortex-m4").tail_bytes for file in files]
        for name in sorted(IN_USE):
            with monkeypatch.context() as changed:
                changed.setitem(tail.LAYOUTS, family, replace(layout, **{name: getattr(layout, name) + 1}))
                assert before != [file.estimate(runtime, core="cortex-m4").tail_bytes for file in files], (family, name)
