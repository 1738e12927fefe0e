"""Run folders survive kills, full disks and hands that edit files."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas import files
from tinynas.arch import load_arch
from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.errors import DiskError, RunError
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.records import Artifact, Promoted, Trial, as_promised
from tinynas.runs import Run
from tinynas.space import Space


def make_run(path: Path, config: dict[str, Any] | None = None) -> Run:
    space = load(shipped("search_spaces")["tiny"], Space)
    return Run.create(path, config=config or {"seed": 1}, space=space, budget=load_budget("stm32f746"), env={"seed": 1})


def test_create_open_and_refuse_a_second(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    again = Run.open(tmp_path / "a")
    assert again.config["seed"] == 1
    assert again.space == load(shipped("search_spaces")["tiny"], Space)
    assert again.budget.limits == load_budget("stm32f746").limits
    assert again.env["versions"]["numpy"]
    with pytest.raises(RunError, match="holds a run already"):
        make_run(run.path)


def test_open_names_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("results/one"))
    assert Run.open("one").name == "one"
    with pytest.raises(RunError) as caught:
        Run.open("two")
    assert "one" in str(caught.value)
    assert Run.fresh_path("one") == Path("results/one-2")


def test_another_format_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    run.config_file.write_text("format: 99\n")
    with pytest.raises(RunError, match="format 99"):
        Run.open(run.path)


trial = st.builds(
    Trial,
    number=st.integers(0, 50),
    id=st.text("0123456789abcdef", min_size=10, max_size=10),
    state=st.sampled_from(["trained", "infeasible", "duplicate", "failed", "stopped"]),
    source=st.sampled_from(["baseline", "tpe"]),
    genotype=st.lists(st.integers(0, 5), max_size=5).map(tuple),
    costs=st.dictionaries(st.sampled_from(["macs", "sram_bytes"]), st.one_of(st.none(), st.integers(0, 10**9))),
    scores=st.dictionaries(st.just("accuracy"), st.floats(0, 1)),
)


@given(st.lists(trial, max_size=10))
def test_trials_round_trip_and_the_last_line_of_a_number_counts(tmp_path_factory: pytest.TempPathFactory, trials: list[Trial]) -> None:
    run = Run(tmp_path_factory.mktemp("run"))
    for one in trials:
        run.append_trial(one)
    latest = {one.number: one for one in trials}
    assert run.trials() == [latest[number] for number in sorted(latest)]


def test_a_line_cut_off_by_a_kill_is_dropped_and_mended(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    append_line(log, {"n": 1})
    with log.open("ab") as file:
        file.write(b'{"n": 2, "half')
    assert list(read_lines(log)) == [{"n": 1}]
    append_line(log, {"n": 3})
    assert list(read_lines(log)) == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_names_file_and_line(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    log.write_text('{"n": 1}\nnonsense\n{"n": 2}\n')
    with pytest.raises(RunError, match=r"trials\.jsonl, line 2"):
        list(read_lines(log))


def _append_many(path: str, worker: int) -> None:
    for index in range(50):
        append_line(Path(path), {"worker": worker, "index": index})


def test_processes_append_without_tearing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(str(log), worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = list(read_lines(log))
    assert sorted((line["worker"], line["index"]) for line in lines) == [(w, i) for w in range(3) for i in range(50)]


def test_a_full_disk_is_one_message_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "front.json"
    write_atomic(path, "old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskError, match="No space left") as caught:
        write_atomic(path, "new")
    assert "--resume" in str(caught.value)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]
    with pytest.raises(DiskError, match="No space left"):
        append_line(tmp_path / "log.jsonl", {"n": 1})
    monkeypatch.undo()
    assert list(read_lines(tmp_path / "log.jsonl")) == []
    append_line(tmp_path / "log.jsonl", {"n": 2})
    assert list(read_lines(tmp_path / "log.jsonl")) == [{"n": 2}]


def test_ids_resolve_by_their_beginning(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"settings": {"objectives": ["accuracy", "macs"]}})
    arch = load_arch("mcunet-tiny2")
    run.write_arch(arch)
    assert run.resolve_id(arch.id[:3]) == arch.id
    assert run.arch(arch.id).id == arch.id
    run.write_front([{"id": arch.id, "accuracy": 0.7}])
    assert run.resolve_id("best") == arch.id
    with pytest.raises(RunError, match=arch.id):
        run.resolve_id("zzz")


def test_the_knee_goes_by_expected_accuracy_and_the_ratio_of_costs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"settings": {"objectives": ["accuracy", "macs"]}})
    for name in ("best", "knee"):
        with pytest.raises(RunError, match="has no front yet"):
            run.resolve_id(name)
    # Costs a factor of ten apart: the middle one has half of the costs' way and, as is expected, 0.9 of the accuracy's.
    a, b, c, d = ids = [letter * 10 for letter in "abcd"]
    scores = {a: {"accuracy": 0.5}, b: {"accuracy": 0.5, "expected_accuracy": 0.68}, c: {"accuracy": 0.7}, d: {"accuracy": 0.71}}
    costs = dict(zip(ids, (1e5, 1e6, 9e6, 1e7), strict=True))
    for number, net_id in enumerate(ids):
        run.append_trial(Trial(number, net_id, "trained", "tpe", (), {"macs": costs[net_id]}, {}, scores[net_id]))
    run.append_trial(Trial(9, b, "duplicate", "tpe", (), {"macs": 1.0}))
    run.write_front([{"id": net_id, "macs": costs[net_id], **scores[net_id]} for net_id in ids])
    assert run.resolve_id("knee") == run.knee == b
    assert run.resolve_id("best") == run.best == d


def test_the_best_goes_by_the_score_that_was_asked_for(tmp_path: Path) -> None:
    a, b, c = ids = [letter * 10 for letter in "abc"]
    scores = {
        a: {"accuracy": 0.9, "worst_subset_accuracy": 0.2},
        b: {"accuracy": 0.8, "worst_subset_accuracy": 0.75, "expected_accuracy": 0.6},  # what is expected of it is .55
        c: {"accuracy": 0.7, "worst_subset_accuracy": 0.6},
    }
    for objectives, best in (("accuracy", a), ("worst_subset_accuracy", c)):
        run = make_run(tmp_path / best, {"settings": {"objectives": [objectives, "macs"]}})
        for number, net_id in enumerate(ids):
            run.append_trial(Trial(number, net_id, "trained", "tpe", (), {"macs": 1e5}, {}, scores[net_id]))
        run.write_front([{"id": net_id, "macs": 1e5, **scores[net_id]} for net_id in ids])
        assert run.best == best


def test_what_is_expected_stays_a_share() -> None:
    low = Trial(0, "x", "trained", "tpe", scores={"accuracy": 0.7, "expected_accuracy": 0.55, "worst_subset_accuracy": 0.1})
    assert as_promised(low).scores["worst_subset_accuracy"] == 0.0
    high = Trial(0, "x", "trained", "tpe", scores={"accuracy": 0.9, "expected_accuracy": 0.97, "int8_accuracy": 0.95})
    assert as_promised(high).scores["int8_accuracy"] == 1.0


def test_promoted_and_artifact_round_trip(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    promoted = Promoted("abcabc0123", 10, 7, 0.8, 0.79, 100, 12.5, 0, {"lr": 0.1}, ((40, 10), (11, 39)))
    run.write_promoted(promoted)
    loaded = run.promoted("abcabc0123")
    assert loaded is not None
    assert [list(row) for row in loaded.confusion] == [[40, 10], [11, 39]]
    assert loaded.test_accuracy == 0.79
    artifact = Artifact("abcabc0123", "model_int8.tflite", "tflite", "00", {"arena": 1})
    run.write_artifact(artifact)
    assert run.artifact("abcabc0123") == artifact


def test_a_record_of_another_version_is_refused() -> None:
    document: dict[str, Any] = Trial(0, "0123456789", "trained", "tpe").to_json()
    with pytest.raises(RunError, match="unknown keys"):
        Trial.from_json({**document, "new": 1})
    del document["id"]
    with pytest.raises(RunError, match="missing keys"):
        Trial.from_json(document)


def test_trials_csv_has_a_row_a_trial(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    run.append_trial(Trial(0, "0123456789", "infeasible", "tpe", costs={"macs": 5}, excess={"sram_bytes": 0.5}))
    run.append_trial(Trial(1, "abcdef0123", "trained", "tpe", costs={"macs": 6}, scores={"accuracy": 0.5}))
    run.write_trials_csv()
    header, *rows = (run.path / "trials.csv").read_text().splitlines()
    assert "scores.accuracy" in header
    assert len(rows) == 2


def test_json_is_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "x.jsonl", {"x": float("nan")})
    run = make_run(tmp_path / "a")
    assert json.loads((run.path / "env.json").read_text())["tinynas"]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(RunError, match="is a file"):
        make_run(tmp_path / "a")


def test_links_out_of_a_run_and_pipes_in_it_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.path / "nets").mkdir()
    (run.path / "nets" / "inside").symlink_to(run.path / "space.yaml")
    Run.open(run.path)
    (tmp_path / "link").symlink_to(run.path)
    assert Run.open(tmp_path / "link").space == run.space, "the folder itself may be one"
    for place in ("state/nets", "nets/0123456789", "trials.jsonl", "study.journal"):
        link = run.path / place
        link.parent.mkdir(exist_ok=True)
        for target in (outside, tmp_path / "nowhere", Path(os.path.relpath(outside, link.parent))):
            link.symlink_to(target)
            with pytest.raises(RunError, match=r"is a link to .*, out of the run"):
                Run.open(run.path)
            link.unlink()
    os.mkfifo(run.path / "times.jsonl")
    with pytest.raises(RunError, match=r"times\.jsonl: is no regular file"):
        Run.open(run.path)


def test_an_id_that_is_none_names_no_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    run.write_json("front", [{"id": "../../outside", "accuracy": 0.7}])
    with pytest.raises(RunError, match=r"front\.json: is damaged: .*id should match"):
        run.resolve_id("best")
    arch = load_arch("mcunet-tiny2")
    run.write_arch(arch)
    other = run.path / "nets" / "0123456789"
    (run.path / "nets" / arch.id).rename(other)
    with pytest.raises(RunError, match=f"holds the network {arch.id}"):
        run.arch("0123456789")
    (other / "arch.yaml").unlink()
    with pytest.raises(RunError, match=r"arch\.yaml: is missing"):
        run.arch("01234")


def test_files_are_for_those_whom_the_umask_lets(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o600), (0o022, 0o644), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            run = make_run(tmp_path / f"{mask:o}")
            run.append_trial(Trial(0, "0123456789", "infeasible", "tpe"))
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file() and path.suffix != ".lock"} == {mode}


def test_only_a_run_that_was_made_here_is_discarded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(AssertionError):
        Run.open(run.path).discard()
    assert run.is_new
    run.discard()
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({"genotype": "12"}, "genotype should be"),
        ({"genotype": [1, "2"]}, "genotype.1 should be a valid integer"),
        ({"number": True}, "number should be"),
        ({"number": -1}, "number should be"),
        ({"id": "../../etc"}, "id should match"),
        ({"costs": {"macs": "5"}}, "costs.macs should be"),
        ({"scores": {"accuracy": None}}, "scores.accuracy should be"),
        ({"state": "lost"}, "state should be 'trained'"),
    ],
)
def test_a_record_of_other_types_is_refused(tmp_path: Path, document: dict[str, Any], wrong: str) -> None:
    run = make_run(tmp_path / "a")
    good = Trial(0, "0123456789", "trained", "tpe", (1, 2), {"macs": 5}, scores={"accuracy": 0.5})
    run.append_trial(good)
    assert run.trials() == [good]
    append_line(run.trials_file, {**good.to_json(), **document})
    with pytest.raises(RunError) as caught:
        run.trials()
    assert f"{run.trials_file}: is damaged: line 2: a Trial record's {wrong}" in caught.value.message
    assert f"tinynas search --resume --out {run.path}" in str(caught.value.hint)


def test_a_report_of_other_types_is_refused() -> None:
    good = Artifact("0123456789", "m.tflite", "tflite", "00", {"accuracy": {"float": None, "int8": 0.5}, "confusion": [[1, 2], [3, 4]]})
    assert Artifact.from_json(good.to_json()) == good
    for report in ({"accuracy": {"int8": "0.5"}}, {"confusion": [[1, 2], [3]]}, {"confusion": "12"}, {"flash_bytes": {"measured": "1"}}):
        with pytest.raises(RunError, match="report's"):
            Artifact.from_json({**good.to_json(), "report": report})
    with pytest.raises(RunError, match="as wide as high"):
        Promoted.from_json({**Promoted("0123456789", 1, 1, 0.5, 0.5, 4, 1.0, 0).to_json(), "confusion": [[1, 2, 3], [1, 2, 3]]})


def test_json_that_holds_no_numbers_of_json_is_damaged(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    for text in (
        "NaN",
        '{"interrupted": false, "seconds": Infinity}',
        "[" * 100_000,
        '{"interrupted": false, "seconds": ' + "9" * 5000 + "}",
        "1",
    ):
        (run.path / "summary.json").write_text(text)
        with pytest.raises(RunError, match=r"summary\.json: is damaged"):
            run.read_json("summary")
    (run.path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(RunError, match="line 1: is not JSON"):
        run.log("x")
