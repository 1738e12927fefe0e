"""What a search hands over when it ends: the accuracy expected of every network, the front, and who was left behind.

Accuracies seen after trainings of different lengths do not compare, and the best of many noisy ones is partly luck. So
the front is taken by what is expected of each network if it were trained as far as the farthest: what was seen, levelled,
and drawn to the surrogate's prediction where the training was short, in the order of what networks promise in the end.
docs/search.md has what that is worth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tinynas.errors import UserError
from tinynas.records import EXPECTED, PROMISED, Trial
from tinynas.search.fronts import front_row, front_rows
from tinynas.search.prepare import Session
from tinynas.search.study import Ledger, database_errors
from tinynas.search.surrogate import Surrogate

#: Expectations are kept to this many digits: sums differ in the last bits between machines.
DIGITS = 6


def hand_over(session: Session, *, finished: bool) -> list[dict[str, Any]]:
    """Write what is expected into the records and the front into ``front.json``; its rows, cheapest first.

    Where the search ``finished``, networks left at the first rung and not on the front are marked as stopped. Only under
    the study's lock. Raises UserError where the storage of a finished search cannot be reached.
    """
    written = {trial.number: trial for trial in session.run.trials()}
    final = dict(written)
    if session.strategy.hands_over and len(session.plan.rungs) > 1:
        try:
            with database_errors(session.settings.storage):
                ledger = session.study.ledger()
        except UserError:
            if finished:
                raise
            # What was seen is on this disk: an interrupted search still has a front.
            return write_front(session, written)
        expected, promised = expected_accuracies(session, ledger)
        nets = [net for net in ledger.nets.values() if net.id in expected and net.number in written]
        for net in nets:
            final[net.number] = _expect(written[net.number], expected[net.id], promised[net.id])
        front = {record.number for record in front_rows(list(final.values()), session.goals)}
        for net in nets:
            if finished and net.rung == 0 and not net.left and net.number not in front and final[net.number].state == "trained":
                others = "others of its size" if session.plan.traded else "others"
                text = f"left at rung 1 of {len(session.plan.rungs)}: {others} did better"
                final[net.number] = replace(final[net.number], state="stopped", reason=text)
        for number in sorted(final):
            if final[number] != written[number]:
                session.run.append_trial(final[number])
    return write_front(session, final)


def write_front(session: Session, records: dict[int, Trial]) -> list[dict[str, Any]]:
    """``front.json`` from the latest record of every proposal; its rows, cheapest first."""
    rows = [front_row(record) for record in front_rows([records[number] for number in sorted(records)], session.goals)]
    session.run.write_front(rows)
    return rows


def expected_accuracies(session: Session, ledger: Ledger) -> tuple[dict[str, float], dict[str, float]]:
    """By id: what is expected of each trained network of the run, and what it promises."""
    surrogate = Surrogate(session.feasible, session.chance, belief=session.settings.belief)
    nets = sorted(ledger.nets.values(), key=lambda net: net.number)
    return surrogate.expected_accuracies(nets, ledger.genotypes), surrogate.promised_accuracies(nets, ledger.genotypes)


def _expect(record: Trial, expected: float, promised: float) -> Trial:
    seen = record.accuracy
    if seen is None:
        return record
    # What was seen is said with all its digits where nothing else is expected.
    said = {
        name: seen if abs(value - seen) < 10.0**-DIGITS else round(value, DIGITS)
        for name, value in ((EXPECTED, expected), (PROMISED, promised))
    }
    return replace(record, scores={**record.scores, **said})
