"""What a search hands over when it ends: the accuracy expected of every network, who was left behind, and the front.

Accuracies seen after trainings of different lengths do not compare, and the best of many noisy ones is partly luck. So
the front is taken by what is expected of each network if it were trained as far as the farthest: what was seen, levelled,
and drawn to the model's prediction where the training was short. Measured on the tables of docs/search.md: 95 % of the
best hypervolume is handed over after a third to two thirds of the training that the last accuracies seen need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinynas.search.belief import Believer
from tinynas.search.fronts import EXPECTED, front_row, front_rows
from tinynas.search.prepare import Session
from tinynas.search.study import Ledger


def hand_over(session: Session, *, finished: bool) -> list[dict[str, Any]]:
    """Write what is expected into the records and the front into ``front.json``; its rows, cheapest first.

    Where the search ``finished``, networks left at the first rung are marked as stopped. Only under the study's lock.
    """
    written = {trial.number: trial for trial in session.run.trials()}
    if session.settings.strategy == "tinynas" and len(session.plan.rungs) > 1:
        ledger = session.study.ledger()
        expected = expected_accuracies(session, ledger)
        for net in sorted(ledger.nets.values(), key=lambda net: net.number):
            record = written.get(net.number)
            if record is None or record.state not in ("trained", "stopped") or net.id not in expected:
                continue
            final = replace(record, scores={**record.scores, EXPECTED: expected[net.id]})
            if net.rung == 0 and finished and record.state == "trained":
                text = f"left at rung 1 of {len(session.plan.rungs)}: others of its size did better"
                final = replace(final, state="stopped", reason=text)
            if final != record:
                session.run.append_trial(final)
                written[net.number] = final
    rows = [front_row(record) for record in front_rows([written[number] for number in sorted(written)], session.goals)]
    session.run.write_front(rows)
    return rows


def expected_accuracies(session: Session, ledger: Ledger) -> dict[str, float]:
    """By id: the validation accuracy expected of each trained network after the farthest rung that any reached."""
    nets = sorted((net for net in ledger.nets.values() if net.results and not net.failed), key=lambda net: net.number)
    if not nets:
        return {}
    believer = Believer(session.feasible, session.cost, session.chance, session.pool.costs[session.cost])
    estimates = believer.believe(nets, ledger.genotypes, accuracy).estimates
    return {net.id: round(min(1.0, max(0.0, float(value))), 6) for net, value in zip(nets, estimates, strict=True)}


def accuracy(scores: Mapping[str, float]) -> float:
    """Of a rung's scores, the one that is handed over."""
    return scores["accuracy"]
