"""Terminal tables and progress: the numbers are right, and they read the same without a terminal or colours."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tinynas import api
from tinynas.boards import boards
from tinynas.budget import load_budget
from tinynas.report import terminal, words


def shown(renderable: RenderableType, *, width: int = 100, encoding: str = "utf-8", colour: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    Console(file=stream, width=width, force_terminal=colour, legacy_windows=False).print(renderable)
    stream.flush()
    return raw.getvalue().decode(encoding)


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_cost_table_says_what_fits_and_by_how_much() -> None:
    cost = api.estimate("mcunet-tiny2")
    fits = shown(terminal.cost_table(cost, load_budget("stm32f746"), name="mcunet-tiny2"))
    assert "fits STM32F746G-DISCO" in fits
    assert "1.67 M" in row(fits, "MACs")
    assert f"{cost.sram_bytes / 1024:.1f} KiB" in row(fits, "SRAM")
    assert f"{round(100 * cost.sram_bytes / (284 * 1024))} %" in row(fits, "SRAM")
    small = load_budget("stm32f746", ["sram=70 KiB"])
    over = shown(terminal.cost_table(cost, small))
    assert f"SRAM is {(cost.sram_bytes - small.limits['sram_bytes']) / 1024:.1f} KiB over" in over
    assert "fits" not in shown(terminal.cost_table(cost))


def test_unknown_latency_is_no_fit_and_no_number() -> None:
    cost = api.estimate("mcunet-tiny2")
    limits = load_budget("stm32f746", ["latency_ms=20"])
    text = shown(terminal.cost_table(cost.__class__(**{**_fields(cost), "latency_ms": None}), limits))
    assert "no evidence" in row(text, "latency")
    assert "does not fit" in text


def test_operators_of_a_file_are_named_once() -> None:
    cost = api.estimate("mcunet-tiny2")
    pieces = tuple([replace(piece, name=f"{i}:{piece.kind}") for i, piece in enumerate(cost.work.pieces)])
    text = shown(terminal.layers_table(replace(cost, work=replace(cost.work, pieces=pieces))))
    assert row(text, "0 ").split()[:3] == ["0", "conv", "24x24x12"]
    assert row(shown(terminal.layers_table(cost)), "0 ").split()[:4] == ["0", "stem", "conv", "24x24x12"]


def test_what_does_not_run_is_said_and_never_fits() -> None:
    cost = api.estimate("mcunet-tiny2")
    work = replace(cost.work, reasons=tuple(f"OPERATOR_{n} with [bold]words[/]" for n in range(10)))
    refused = replace(cost, work=work)
    for limits in (None, load_budget("stm32f746")):
        text = shown(terminal.cost_table(refused, limits))
        assert "does not run on tflm: OPERATOR_0 with [bold]words[/]" in text
        assert "OPERATOR_7" in text and "OPERATOR_8" not in text
        assert "and 2 reasons more (--json)" in text
        assert "fits" not in text
    assert not load_budget("stm32f746").fits(refused)


def test_notes_and_what_is_at_least() -> None:
    cost = api.estimate("mcunet-tiny2")
    work = replace(cost.work, uncounted=("CUSTOM X",), notes=("a note",))
    text = shown(terminal.cost_table(replace(cost, work=work, latency_ms=None), load_budget("stm32f746")))
    assert "at least 1.67 M" in row(text, "MACs")
    assert "note: a note" in text
    assert "note: the MACs of CUSTOM X are not known" in text
    assert "note: no latency: the MACs of CUSTOM X are not known" in text
    elsewhere = replace(cost, runtime="stedgeai", work=replace(cost.work, reasons=None))
    assert "note: whether stedgeai has all of its operators is not known" in shown(terminal.cost_table(elsewhere))
    assert "note" not in shown(terminal.cost_table(cost))


def test_why_there_is_no_time() -> None:
    for name, said in (
        ("rp2040", "note: instructions, not time: 26.6 M an inference; no time is known of cortex-m0plus with tflm-cmsis-nn"),
        ("esp32-s3", "note: no latency: no time is known of xtensa-lx7 with tflm-esp-nn, measure yours (latency: mine.csv)"),
        ("stm32f746", ""),
    ):
        budget = load_budget(name)
        text = " ".join(shown(terminal.cost_table(api.estimate("mcunet-tiny2", budget), budget)).split())
        assert said in text and ("note: " in text) == bool(said), name


def test_what_it_takes_to_start_has_a_row_where_it_is_more() -> None:
    cost = api.estimate("mcunet-tiny2")
    assert "to start" not in shown(terminal.cost_table(cost))
    more = replace(cost, setup_bytes=cost.head_bytes + cost.tail_bytes + 512)
    assert row(shown(terminal.cost_table(more)), "more, to start").split()[-2:] == ["512", "B"]


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def test_layers_table_has_every_operator_and_one_peak() -> None:
    cost = api.estimate("mcunet-tiny2")
    lines = shown(terminal.layers_table(cost)).rstrip().splitlines()
    assert len(lines) == 1 + len(cost.layers)
    marked = [line for line in lines if "< peak" in line]
    assert len(marked) == 1
    assert cost.peak_op in marked[0]


def test_front_table_is_sorted_and_drops_columns_nobody_knows() -> None:
    rows = [
        {"id": "aaaaaaaaaa", "accuracy": 0.7, "macs": 1_000_000, "sram_bytes": 20480, "flash_bytes": 40960, "latency_ms": None},
        {"id": "bbbbbbbbbb", "accuracy": 0.8, "macs": 2_000_000, "sram_bytes": 30720, "flash_bytes": 51200, "latency_ms": None},
    ]
    text = shown(terminal.front_table(rows))
    assert text.index("bbbbbbbbbb") < text.index("aaaaaaaaaa")
    assert "80.0 %" in row(text, "bbbbbbbbbb")
    assert "30.0 KiB" in row(text, "bbbbbbbbbb")
    assert "latency" not in text
    assert "int8" not in text
    assert shown(terminal.front_table([])).split() == ["network", "accuracy"]


def test_front_table_shows_what_is_expected_and_what_was_seen() -> None:
    rows = [
        {"id": "aaaaaaaaaa", "accuracy": 0.7, "expected_accuracy": 0.7, "epochs": 8, "macs": 1_000_000},
        {"id": "bbbbbbbbbb", "accuracy": 0.6, "expected_accuracy": 0.75, "epochs": 1, "macs": 2_000_000},
    ]
    text = shown(terminal.front_table(rows))
    assert text.index("bbbbbbbbbb") < text.index("aaaaaaaaaa"), "the most accurate to be expected first"
    assert re.findall(r"([0-9.]+) %", row(text, "bbbbbbbbbb")) == ["75.0", "60.0"]
    assert text.split()[:3] == ["network", "expected", "seen"]


PROMOTED: dict[str, Any] = {
    "id": "aaaaaaaaaa",
    "accuracy": {"float": 0.861, "int8": 0.858, "split": "test"},
    "agreement": 0.991,
    "flash_bytes": {"estimated": 84000, "measured": 84000},
    "arena_bytes": {"estimated": 43008, "measured": 43024},
    "runtime": "tflm",
    "firmware": None,
    "files": {"tflite": "model_int8.tflite"},
}


def test_promoted_table_shows_estimated_beside_measured() -> None:
    whole = shown(terminal.promoted_table([PROMOTED]), width=80)
    assert "…" not in whole
    text = row(whole, "aaaaaaaaaa")
    assert re.findall(r"([0-9.]+) %", text) == ["86.1", "85.8", "99.1"]
    assert "82.0 KiB (82.0)" in text
    assert "42.0 KiB (42.0)" in text


def test_promoted_table_shows_work_area_and_stack_of_compiled_networks() -> None:
    """Promised, and measured where it was verified; not the arena of TFLM, which does not run them."""
    document = PROMOTED | {"runtime": "compiled", "firmware": {"runtime": "compiled", "work_bytes": 10240, "stack_bytes": 512}}
    whole = shown(terminal.promoted_table([document]), width=120)
    assert "arena" not in whole and "work area (promised)" in whole and "stack (promised)" in whole
    assert "– (10.0 KiB)" in row(whole, "aaaaaaaaaa") and "– (512 B)" in row(whole, "aaaaaaaaaa") and "42.0" not in whole
    assert "file (estimated)" in whole and "82.0 KiB (82.0)" in whole
    document["verified"] = {"used_work_bytes": 10000, "stack_bytes": 480}
    text = row(shown(terminal.promoted_table([document]), width=120), "aaaaaaaaaa")
    assert "9.8 KiB (10.0)" in text and "480 B (512 B)" in text


@pytest.mark.parametrize(
    ("runtime", "files", "said"),
    [
        ("tflm", ["c"], ["file", "arena here"]),  # the model lies in it
        ("tflm", ["compiled"], []),
        ("compiled", ["compiled"], []),
        ("compiled", ["tflite"], ["file"]),
        ("compiled", ["c"], []),
    ],
)
def test_promoted_table_says_nothing_of_a_model_that_was_not_written(runtime: str, files: list[str], said: list[str]) -> None:
    document = PROMOTED | {"runtime": runtime, "files": dict.fromkeys(files, "somewhere")}
    whole = shown(terminal.promoted_table([document]), width=120)
    assert re.findall(r"(flash|file|arena here) \(estimated\)", whole) == said
    assert ("82.0" in whole) == bool(said) and ("42.0" in whole) == ("arena here" in said)


def test_bars_are_ascii_where_the_terminal_is() -> None:
    assert shown(terminal.Bar(0.5, 10), encoding="ascii").strip() == "#####....."
    assert shown(terminal.Bar(0.5, 10)).strip() == "█████·····"
    assert shown(terminal.Bar(7.0, 4)).strip() == "████"


def test_no_color_drops_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = api.estimate("mcunet-tiny2")
    budget = load_budget("stm32f746")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in (coloured := shown(terminal.cost_table(cost, budget), colour=True)) or "\x1b[1;32m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[(?:[0-9]+;)*3[0-9]", shown(terminal.cost_table(cost, budget), colour=True))


def test_search_progress_off_a_terminal_is_a_few_plain_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, width=40)
    with terminal.search_progress(console, every=1000) as progress:
        for step in range(50):
            progress(
                SimpleNamespace(
                    elapsed=step * 12.0,
                    timeout=600.0,
                    trained=step,
                    infeasible=1000,
                    duplicate=2,
                    failed=1,
                    front_size=4,
                    hypervolume=0.5,
                    best_accuracy=0.8123,
                    message="space: 64 px" if step else None,
                )
            )
    lines = file.getvalue().splitlines()
    assert lines == [
        "[0.0s of 10m00s] 0 trained, 1,000 do not fit, 2 seen before, 1 failed, front 4, best 81.2 %, hypervolume 0.5000",
        "space: 64 px",
        "[9m48s of 10m00s] 49 trained (5.0/min), 1,000 do not fit, 2 seen before, 1 failed, front 4, best 81.2 %, hypervolume 0.5000",
    ]


def test_progress_takes_mappings_and_missing_counts() -> None:
    file = io.StringIO()
    with terminal.search_progress(Console(file=file)) as progress:
        progress({"elapsed": 5.0, "trained": 3, "trials": 12, "message": "[markup] is not read"})
    assert file.getvalue().splitlines() == ["[markup] is not read", "[5.0s, 15s left] 3 of 12 trained (36.0/min)"]


def test_the_pace_of_a_resumed_search_is_that_of_what_it_trained_itself() -> None:
    file = io.StringIO()
    with terminal.search_progress(Console(file=file, width=80), every=0) as progress:
        progress({"elapsed": 0.0, "timeout": 60.0, "trained": 0, "front_size": 0, "status": "searching tiny"})
        progress({"elapsed": 5.0, "timeout": 60.0, "trained": 0, "infeasible": 3, "failed": 1})
        progress({"elapsed": 30.0, "timeout": 60.0, "trained": 25, "trained_before": 25})
        progress({"elapsed": 30.0, "timeout": 60.0, "trained": 26, "trained_before": 25})
    assert file.getvalue().splitlines() == [
        "[0.0s of 1m00s] searching tiny",
        "[5.0s of 1m00s] 0 trained, 3 do not fit, 1 failed",
        "[30s of 1m00s] 25 trained (25 before)",
        "[30s of 1m00s] 26 trained (25 before, 2.0/min)",
    ]


def test_search_progress_on_a_terminal_redraws_one_block() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, legacy_windows=False)
    with terminal.search_progress(console) as progress:
        progress({"elapsed": 30.0, "timeout": 60.0, "trained": 3, "front_size": 2})
        progress({"elapsed": 60.0, "timeout": 60.0, "trained": 7, "front_size": 3})
    assert "7 trained" in file.getvalue().rsplit("searching", 1)[1]
    assert "front 3" in file.getvalue()


def test_until_something_is_trained_the_display_says_what_is_prepared() -> None:
    def drawn(event: dict[str, object]) -> str:
        progress(event)
        return shown(progress.draw(event), width=80)  # type: ignore[attr-defined]

    with terminal.search_progress(Console(file=io.StringIO(), width=80, height=30)) as progress:
        begun = drawn({"elapsed": 1.0, "timeout": 60.0, "trained": 0, "front_size": 0, "status": "measuring the speed"})
        assert "measuring the speed" in begun and "0 trained" not in begun
        assert "measuring the speed" in drawn({"elapsed": 2.0, "timeout": 60.0, "trained": 0, "front_size": 0}), "it still is"
        points = ((1e6, 0.5, True), (2e6, 0.7, True), (3e6, 0.6, False))
        last = drawn({"elapsed": 30.0, "timeout": 60.0, "trained": 3, "front_size": 2, "points": points, "cost": "macs"})
        assert "measuring" not in last and "3 trained" in last
        assert "accuracy over MACs" in last and "70.0 %" in last


@pytest.mark.parametrize(("width", "bar"), [(120, 32), (80, 32), (40, 14), (33, 0)])
def test_the_bar_takes_what_room_there_is(width: int, bar: int) -> None:
    event = {"elapsed": 300.0, "timeout": 600.0, "trained": 3}
    with terminal.search_progress(Console(file=io.StringIO(), width=width)) as progress:
        line = shown(progress.draw(event), width=width, colour=True).splitlines()[0]  # type: ignore[attr-defined]
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
    assert len(line) <= width
    assert sum(line.count(char) for char in "━╸╺") == bar
    assert "searching" in line and "5m00s of 10m00s" in line and (bar > 0 or "50 %" in line)


def test_promote_progress_names_network_epoch_and_time_left() -> None:
    file = io.StringIO()
    with terminal.promote_progress(Console(file=file)) as progress:
        progress(
            SimpleNamespace(id="aaaaaaaaaa", index=0, total=2, epoch=10, epochs=40, seconds_per_epoch=6.0, loss=0.5, val_accuracy=0.84)
        )
    assert file.getvalue() == "training aaaaaaaaaa (1 of 2): epoch 10 of 40, 3m00s left, loss 0.500, validation 84.0 %\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.9, "1.00 k"), (1_674_512, "1.67 M"), (55_771_000, "55.8 M"), (300_774_272, "301 M"), (9_996, "10.0 k")],
)
def test_counts_keep_three_digits(number: float, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (9.94, "9.9s"), (59.6, "1m00s"), (3599.7, "1h00m"), (252, "4m12s")])
def test_durations_round_without_sixty(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_summary_reads_a_network_in_a_few_lines() -> None:
    lines = words.summary(api.load_net("mcunet-tiny2"))
    assert lines[0] == "input 48x48 RGB"
    assert lines[1] == "stem 3x3 to 12, stride 2"
    assert lines[3] == "16 ch: k3m36s2 k3m48+"
    assert sum(line.count("k") for line in lines[2:]) == 8


def test_evaluation_table_shows_the_confusion_and_the_kernels() -> None:
    result = {
        "accuracy": 0.875,
        "balanced_accuracy": 0.85,
        "auc": 0.93,
        "n": 1600,
        "confusion": [[700, 100], [100, 700]],
        "labels": ["no", "[red]yes[/red]"],
        "kernels": "tflite-micro",
        "subsets": {
            "light: [b]dark[/b]": {
                "n": 400,
                "accuracy": 0.9,
                "accuracy_interval": [0.866, 0.926],
                "recall": 0.5,
                "recall_interval": [0.4, 0.6],
            }
        },
        "gaps": [
            {"group": "light", "figure": "recall", "best": "x", "worst": "y", "points": 8.25, "p": 0.00001, "more_than_noise": True},
            {"group": "light", "figure": "false_alarms", "best": "x", "worst": "y", "points": 2.0, "p": 0.34, "more_than_noise": False},
            {"group": "wet", "figure": "recall", "best": "x", "worst": "y", "points": 0.0, "p": 1.0, "more_than_noise": False},
        ],
    }
    text = shown(terminal.evaluation_table(result))
    assert "87.50 %" in row(text, "accuracy")
    assert "[red]yes[/red]" in text
    assert row(text, "no ").split() == ["no", "700", "100"]
    assert "tflite-micro" in text
    assert row(text, "light: [b]dark[/b]").split()[2:8] == ["400", "90.0", "%", "(86.6", "to", "92.6"]
    assert "light, recall: y is 8.2 points worse than x, more than noise (p below 0.0001)" in text
    assert "light, false alarms: y is 2.0 points worse than x, no more than noise (p 0.34)" in text
    assert "wet, recall: x and y alike" in text


def test_boards_table_lists_every_board_on_80_columns() -> None:
    rows = [board.to_json() for board in boards()]
    text = shown(terminal.boards_table(rows), width=80)
    assert all(board.name in text for board in boards())
    assert max(map(len, text.splitlines())) <= 80
    assert row(text, "pico ").split()[-4:] == ["256", "KiB", "2,048", "KiB"]
