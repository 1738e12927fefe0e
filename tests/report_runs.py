"""A complete run folder with made-up trials, for tests of the report: real networks and costs, invented accuracies."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.cost import estimate
from tinynas.graph import lower
from tinynas.records import Artifact, Promoted, Trial
from tinynas.runs import Run
from tinynas.space import Space

#: Class names as an attacker would choose them, and one that is merely long.
EVIL = ('<img src=x onerror="window.pwned=1">', "</script><script>window.pwned=1</script>", "a very long class name, " * 4)


def make_run(
    path: Path,
    *,
    networks: int = 40,
    promoted: int = 2,
    labels: Sequence[str] = ("no person", "person"),
    finished: bool = True,
    seed: int = 3,
    space_name: str = "tiny",
) -> Run:
    """A run of a space under a budget that binds; everything follows from ``seed``."""
    space = load(shipped("search_spaces")[space_name], Space)
    budget = load_budget("stm32f746", ["name=tight", "board=A <b>board</b>", "sram=96 KiB", "macs=4000000"])
    rng = random.Random(seed)
    run = Run.create(
        path,
        config={
            "data": "made/up",
            "data_options": {},
            "settings": {"objectives": ["accuracy", "macs"], "seed": seed, "strategy": "tinynas"},
        },
        space=space,
        budget=budget,
        env={"seed": seed, "data": "0" * 16, "labels": list(labels)},
    )
    classes = len(labels)
    box = [[1 / classes, 1.0], [math.log(4.2e6), math.log(0.4e6)]]
    run.write_json("plan", {"classes": classes, "reference": box, "rungs": [1, 3, 9], "notes": ["<i>a note</i> of the plan"]})
    trials: list[Trial] = []
    number = 0
    while sum(t.state == "trained" for t in trials) < networks:
        genotype = space.draw(lambda _name, n: rng.randrange(n))
        arch = space.decode(genotype, classes)
        cost = estimate(lower(arch), budget.runtime)
        excess = budget.excess(cost)
        source = "baseline" if number % 4 == 0 else "tpe"
        fits = budget.fits(cost)
        if not fits and sum(t.state == "infeasible" for t in trials) > 3 * networks:
            continue
        trial = Trial(number, arch.id, "infeasible", source, genotype, cost.values(), excess, reason="over a limit")
        if fits:
            run.write_arch(arch)
            skill = 0.62 + 0.1 * math.log10(cost.macs / 4e5) + rng.gauss(0, 0.02) - (0.015 if source == "baseline" else 0)
            for epochs in (1, 3, 9)[: rng.choice((1, 2, 3))]:
                accuracy = round(skill - 0.1 / epochs, 4)
                trial = Trial(
                    number, arch.id, "trained", source, genotype, cost.values(), excess, {"accuracy": accuracy}, epochs, epochs * 2048
                )
                run.append_trial(trial)
                run.append_log("times", {"number": number, "images": 2048, "seconds": 0.5 + cost.macs / 4e6})
        else:
            run.append_trial(trial)
        trials.append(trial)
        number += 1
    scored = sorted((t for t in trials if t.accuracy is not None), key=lambda t: -(t.accuracy or 0))
    for index, trial in enumerate(scored[:promoted]):
        finish(run, trial, classes, rng, exported=index == 0)
    if finished:
        for trial in trials:
            if trial.accuracy is not None:
                expected = round(trial.accuracy + 0.1 / trial.epochs - 0.1 / 9, 4)
                run.append_trial(replace(trial, scores={**trial.scores, "expected_accuracy": expected}))
        run.write_json("summary", {"seconds": 481.0, "reason": "the time is used", "interrupted": False})
        run.write_trials_csv()
    return run


def finish(run: Run, trial: Trial, classes: int, rng: random.Random, *, exported: bool) -> None:
    """Full training of ``trial``, and its export where ``exported``."""
    epochs = 30
    lines = ["epoch,loss,train_accuracy,val_accuracy,val_loss,seconds,images"]
    for epoch in range(1, epochs + 1):
        val = 0.86 - 0.3 * math.exp(-epoch / 6) + rng.gauss(0, 0.004)
        lines.append(f"{epoch},{0.7 * math.exp(-epoch / 9):.4f},{val - 0.02:.4f},{val:.4f},0.4,3.1,4096")
    folder = run.net_dir(trial.id)
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    confusion = tuple(tuple(420 if i == j else 80 // max(1, classes - 1) for j in range(classes)) for i in range(classes))
    run.write_promoted(
        Promoted(trial.id, epochs, 26, 0.861 if exported else 0.855, 0.843, sum(map(sum, confusion)), 93.0, 0, confusion=confusion)
    )
    if exported:
        flash, arena = int(trial.costs["flash_bytes"] or 0), int(trial.costs["sram_bytes"] or 0)
        report = {
            "accuracy": {"float": 0.843, "int8": 0.841, "split": "test"},
            "agreement": 0.987,
            "flash_bytes": {"estimated": flash, "measured": flash},
            "arena_bytes": {"estimated": arena + 3000, "measured": arena + 3000, "microcontroller_estimated": arena},
            "confusion": [list(row) for row in confusion],
            "kernels": "tflite-micro",
            "verified": verified(arena, flash),
        }
        run.write_artifact(Artifact(trial.id, "model_int8.tflite", "tflite", "0" * 64, report))


def verified(arena: int, flash: int) -> dict[str, Any]:
    """What an emulated core found, as ``tinynas verify --json`` says it."""
    ops = [("CONV_2D", 974_876), ("DEPTHWISE_CONV_2D", 529_381), ("CONV_2D", 409_155), ("MEAN", 49_384), ("FULLY_CONNECTED", 729)]
    return {
        "name": "model_int8",
        "target": "cortex-m4",
        "kernels": "cmsis-nn",
        "tree": "/src/<tflite>-micro",
        "compiler": "arm-none-eabi-g++ 12",
        "emulator": "QEMU emulator version 7.2",
        "promised_arena_bytes": arena,
        "used_arena_bytes": arena - 12,
        "needed_arena_bytes": arena - 8,
        "equal_outputs": 4,
        "compared_outputs": 4,
        "not_compared": "",
        "promised_flash_bytes": flash,
        "model_bytes": flash,
        "code_bytes": 112_608,
        "instructions": [{"op": op, "instructions": count} for op, count in ops],
        "refused": "",
        "firmware": {
            "digest": "0" * 64,
            "arena_bytes": arena + 512,
            "used_arena_bytes": arena - 12,
            "images": 2,
            "equal_images": 2,
            "program_bytes": flash + 114_000,
            "failed": "",
        },
        "folder": "c",
        "no_firmware": "",
        "promised_code_bytes": 113_000,
        "promised_program_bytes": flash + 114_100,
        "notes": [],
        "problems": [],
        "good": True,
    }
