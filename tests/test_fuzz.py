"""Mutated input of every kind ends in a message: a small draw of benchmarks/fuzz.py, and what counts as a fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz_cases import ROOMS, Case, Ground, attempt, make_case, remove_case, verdict

#: Cases of each room in this suite; benchmarks/fuzz.py runs hundreds.
COUNT = 8
SEED = 15


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzz")
        patch.chdir(folder)
        yield Ground(folder)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_mutated_input_ends_in_a_message(ground: Ground, room: str) -> None:
    faults = []
    for number in range(COUNT):
        case = make_case(ground, room, number, SEED)
        outcome = attempt(case)
        remove_case(ground, case)
        if outcome.fault:
            faults.append(f"{room} {number}: {outcome.fault}: {case.command} ({case.what}): {outcome.output[-600:]}")
    assert not faults, "\n".join(faults)


def test_good_input_of_the_ground_is_accepted(ground: Ground) -> None:
    for command in (
        ("pareto", str(ground.run)),
        ("data", "info", str(ground.images)),
        ("estimate", str(next(ground.run.glob("nets/*/*.tflite")))),
    ):
        assert attempt(Case("run", 0, command, "")).exit_code == 0


@pytest.mark.parametrize(
    ("exit_code", "output", "errors", "fault"),
    [
        (0, "fine\n", "", ""),
        (2, "", "error: no such file\n  -> give another\n", ""),
        (1, "does not fit\n", "", ""),
        (130, "", "interrupted; nothing finished is lost\n", ""),
        (1, "", "internal error (please report): KeyError at x.py:1: 'a'\n", "an internal error"),
        (0, "Traceback (most recent call last)\n", "", "an internal error"),
        (None, "", "", "no answer"),
        (-11, "", "", "SIGSEGV"),
        (99, "", "", "exit code 99"),
        (2, "", "", "without a message"),
        (0, "a \x1b[2J b", "", "control character"),
        (2, "", "error: \u202ename\n", "control character"),
        (2, "", "error: " + "x" * 30_000, "characters"),
    ],
)
def test_what_counts_as_a_fault(exit_code: int | None, output: str, errors: str, fault: str) -> None:
    found = verdict(exit_code, output, errors)
    assert (fault in found) if fault else not found


def test_a_case_is_the_same_for_the_same_seed(ground: Ground) -> None:
    for room in ROOMS:
        first, again, other = (make_case(ground, room, 5, seed) for seed in (1, 1, 2))
        assert first == again and (first.command, first.what) != (other.command, other.what)
        remove_case(ground, first)
