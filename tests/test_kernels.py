"""The table of TFLM's kernels against tflite-micro itself: for a file of each operator and element type, what it takes and refuses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import pytest
from op_files import KINDS, REFUSED, TYPES, VARIANTS, op_file
from tflm_many import Ran, run_many

from tinynas.cost.kernels import KERNELS, caution, refusal
from tinynas.cost.setup import setup_bytes
from tinynas.cost.tflite import ModelFile, parse_model

pytest.importorskip("tflite_micro")
pytestmark = pytest.mark.xdist_group("tflm kernels")

Name = TypeVar("Name")

#: Rows that need more than one operator, or another graph of the file: tests/test_cost_tflite.py.
ELSEWHERE = {"IF", "WHILE", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


@lru_cache(maxsize=1)
def by_type() -> dict[tuple[str, str], tuple[ModelFile, Ran]]:
    names = [(kind, dtype) for kind in KINDS for dtype in TYPES]
    return _ran(names, [op_file(*name) for name in names])


@lru_cache(maxsize=1)
def variants() -> dict[str, tuple[ModelFile, Ran]]:
    made = {name: make() for name, make in VARIANTS.items()} | {name: make() for name, (_, make) in REFUSED.items()}
    return _ran(list(made), list(made.values()))


def _ran(names: Sequence[Name], files: Sequence[bytes]) -> dict[Name, tuple[ModelFile, Ran]]:
    return {name: (parse_model(file), ran) for name, file, ran in zip(names, files, run_many(files), strict=True)}


def reasons(model: ModelFile) -> list[str]:
    return [reason for op in model.ops if (reason := refusal(op, model.tensors)) is not None]


def assert_exact(model: ModelFile, ran: Ran) -> None:
    cost = model.estimate()
    assert cost.unknown == ()
    assert (cost.head_bytes + cost.wider_head_bytes, cost.host_arena_bytes) == (ran.head, ran.head + ran.tail)


def test_there_is_a_file_for_every_row() -> None:
    assert set(KINDS) | ELSEWHERE == set(KERNELS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_takes_and_refuses_by_element_type(kind: str) -> None:
    accepted = []
    for dtype in TYPES:
        model, ran = by_type()[kind, dtype]
        assert bool(ran.error) == bool(reasons(model)), (dtype, ran.error, reasons(model))
        if not ran.error:
            assert_exact(model, ran)
            accepted.append(dtype)
        elif len(model.ops) == 1:
            (reason,) = reasons(model)
            assert reason.startswith(f"{kind} with ") and dtype in reason, reason
    assert accepted, "a kernel that takes no type at all"


@pytest.mark.parametrize("name", VARIANTS)
def test_what_other_forms_take(name: str) -> None:
    model, ran = variants()[name]
    assert not ran.error
    assert reasons(model) == []
    assert_exact(model, ran)


#: An arena that is too small crashes tflite-micro in their Prepare functions.
CRASHING = ("BATCH_MATMUL", "MEAN", "SUM", "REDUCE_MAX", "LSTM", "Signal", "detection", "FULLY_CONNECTED no", "FULLY_CONNECTED 37")


def test_what_setting_up_takes() -> None:
    made = {name: make() for name, make in VARIANTS.items() if not name.startswith(CRASHING)}
    made |= {kind: op_file(kind, "int8") for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "SVDF", "GATHER_ND")}
    bound = 0
    for (name, file), ran in zip(made.items(), run_many(list(made.values()), smallest=True, arena_bytes=1 << 15), strict=True):
        assert not ran.error, name
        used, work = ran.head + ran.tail, parse_model(file).estimate().work
        needed = max(used, setup_bytes(work, "host"))
        assert 0 <= needed - ran.smallest <= 16, (name, used, needed, ran.smallest)
        bound += needed > used
    assert bound > 15


@pytest.mark.parametrize("name", REFUSED)
def test_what_else_is_refused(name: str) -> None:
    words, _ = REFUSED[name]
    model, ran = variants()[name]
    assert ran.error, f"tflite-micro runs it: {reasons(model)}"
    said = reasons(model)
    assert any(words in reason for reason in said), said
    if " with " in words:
        assert words in said, said


def test_what_runs_and_answers_wrongly_is_said() -> None:
    said = {name for name, (model, _) in variants().items() if any(caution(op, model.tensors) for op in model.ops)}
    assert said == {"LSTM hybrid"}
