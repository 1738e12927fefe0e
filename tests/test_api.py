"""The Python API's corridor: what is given by name, in settings and by --set arrives, and nothing of it is ignored."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_runs import SPACE, small_search, write_stripes

from tinynas import api
from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import BudgetError, DataError, RunError, UserError
from tinynas.promote import PromoteEvent
from tinynas.recipe import Recipe
from tinynas.records import Trial
from tinynas.runs import Run, without_password
from tinynas.search import SearchEvent, SearchSettings, worker

Prepare = Callable[..., PreparedSearch]
FEW = tuple(f"data.synthetic.{split}=32" for split in ("train", "val", "test"))


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))

    def call(name: str = "run", *, overrides: tuple[str, ...] = (), **options: Any) -> PreparedSearch:
        return prepare_search("stm32f746", space="tiny", out=tmp_path / name, overrides=FEW + overrides, **options)

    return call


def test_names_go_before_settings_and_set_before_both(prepare: Prepare) -> None:
    given = SearchSettings(trials=3, seed=1, pool=50, recipe=Recipe(epochs=5))
    chosen = prepare(settings=given, trials=4, timeout="2m", overrides=("seed=9", "start=2")).settings
    assert (chosen.trials, chosen.timeout, chosen.seed) == (4, 120.0, 9)
    assert (chosen.pool, chosen.start, chosen.recipe) == (50, 2, Recipe(epochs=5))
    assert (chosen.bands, chosen.workers) == (SearchSettings().bands, 1)


def test_one_setting_of_the_recipe_leaves_the_others_a_proxys(prepare: Prepare) -> None:
    """Nested settings begin with their own defaults, not with those of their class: a proxy's rate is constant."""
    assert prepare(overrides=("recipe.lr=0.01",)).settings.recipe == Recipe.proxy(lr=0.01)


def test_a_resumed_run_takes_what_may_change_and_refuses_what_may_not(prepare: Prepare, tmp_path: Path) -> None:
    prepare(trials=3, seed=5, objectives=("sram",))
    path = tmp_path / "run"
    again = prepare_search(None, out=path, resume=True, trials=7, workers=2, seed=5, objectives=["sram"])
    assert (again.settings.trials, again.settings.workers, again.settings.seed) == (7, 2, 5)
    with pytest.raises(RunError, match="was begun with seed 5, not 6"):
        prepare_search(None, out=path, resume=True, seed=6)
    with pytest.raises(RunError, match="was begun with objectives sram, not macs"):
        prepare_search(None, out=path, resume=True, objectives=("macs",))
    with pytest.raises(UserError, match="settings beside resume"):
        prepare_search(None, out=path, resume=True, settings=SearchSettings())


def test_unknown_objectives_and_wrong_values_are_refused_before_a_run_is_begun(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nonsense"):
        prepare(objectives=("nonsense",))
    with pytest.raises(UserError, match="timeout"):
        prepare(timeout="soon")
    assert not (tmp_path / "run").exists()


# going on: what may change, where data lie, what is left behind ---------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 6}, "seed 0, not 6"),
    "objective": ({"objectives": ("sram",)}, "objectives accuracy, macs, not sram"),
    "a setting": ({"overrides": ("pool=60",)}, "pool 50, not 60"),
    "the recipe": ({"overrides": ("recipe.lr=90",)}, "recipe.lr 0.005, not 90.0"),
    "the strategy": ({"overrides": ("strategy=random",)}, "strategy tinynas, not random"),
    "the budget": ({"budget": "rp2040"}, "budget stm32f746, not rp2040"),
    "a limit": ({"overrides": ("budget.macs=5",)}, "budget.macs none, not 5"),
    "the runtime": ({"budget": "stm32f746", "overrides": ("budget.runtime=tinyengine",)}, "budget.runtime tflm-cmsis-nn, not tinyengine"),
    "the space": ({"space": "micro"}, "space tiny, not micro"),
    "a choice": ({"overrides": ("space.divisor=16",)}, "space.divisor 4, not 16"),
    "the splits": ({"overrides": ("data.seed=4",)}, "data.seed 0, not 4"),
    "the images": ({"overrides": ("data.synthetic.size=64",)}, "data.synthetic.size none, not 64"),
    "storage": ({"storage": "sqlite:///other.db"}, "not in sqlite:////"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_run_was_not_begun_with_is_refused_by_both_values(prepare: Prepare, tmp_path: Path, what: str) -> None:
    begun = prepare(trials=3, overrides=("pool=50",))
    begun.run.append_trial(Trial(0, "0123456789", "infeasible", "tpe"))
    given, said = REFUSED[what]
    before = begun.run.config_file.read_bytes()
    with pytest.raises(RunError, match=re.escape(said).replace("none", ".*")):
        prepare_search(**{"budget": None, **given}, out=tmp_path / "run", resume=True)
    assert begun.run.config_file.read_bytes() == before


def test_what_a_run_was_begun_with_may_be_said_again(prepare: Prepare, tmp_path: Path) -> None:
    set_ = (*FEW, "pool=50", "budget.macs=9000000", "space.divisor=8", "data.val_share=0.2", "recipe.lr=0.01", "workers=2")
    first = prepare_search("stm32f746", space="tiny", out=tmp_path / "run", data="synthetic", trials=3, overrides=set_)
    again = prepare_search(
        "stm32f746",
        space="tiny",
        data="synthetic",
        out=tmp_path / "run",
        resume=True,
        objectives=("macs",),
        seed=0,
        timeout="9m",
        overrides=(*set_, "trials=5"),
    )
    assert again.settings == first.settings.model_copy(update={"trials": 5, "timeout": 540.0})
    assert (again.budget, again.space) == (first.budget, first.space)


def test_data_are_found_where_they_are(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    (place / "images").mkdir(parents=True)
    write_stripes(place / "images")
    monkeypatch.chdir(place)
    prepare_search("stm32f746", space="tiny", data="images", out="run", trials=3)
    config = Run.open("run").config
    assert (config["data"], config["data_path"], config["data_from_run"]) == ("images", str(place / "images"), "../images")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()  # another one of that name is not taken for it
    assert prepare_search(None, out=place / "run", resume=True).data.name == str(place / "images")
    place = place.rename(tmp_path / "both moved together")
    assert prepare_search(None, out=place / "run", resume=True).data.name == str(place / "images")
    moved = (place / "images").rename(tmp_path / "only images moved")
    with pytest.raises(DataError, match="not there any more") as caught:
        prepare_search(None, out=place / "run", resume=True)
    assert "--data" in str(caught.value.hint)
    assert prepare_search(None, out=place / "run", resume=True, data=str(moved)).data.name == str(moved)
    assert prepare_search(None, out=place / "run", resume=True).data.name == str(moved), "it is noted"
    (moved / "down" / "0.png").unlink()
    for given in (None, str(moved)):
        with pytest.raises(RunError, match=r"191 images.*begun with 192 images") as changed:
            prepare_search(None, out=place / "run", resume=True, data=given)
        assert "--data" in str(changed.value.hint)
    (moved / "down" / "0.png").write_bytes((moved / "down" / "1.png").read_bytes())
    with pytest.raises(RunError, match="other ones"):
        prepare_search(None, out=place / "run", resume=True)


def test_a_list_of_groups_is_found_by_its_content(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    write_stripes(tmp_path / "images")
    rows = [f"{label}/{n}.png,{label}{n // 4}" for label in ("across", "down", "slanted") for n in range(64)]
    (tmp_path / "groups.csv").write_text("\n".join(["name,group", *rows]) + "\n")
    options = {"data": "images", "out": tmp_path / "run", "overrides": ("data.groups=csv:groups.csv",)}
    first = prepare_search("stm32f746", space="tiny", trials=3, **options)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = prepare_search(None, out=tmp_path / "run", resume=True)
    assert [list(again.data.members[split]) for split in again.data.members] == [list(rows) for rows in first.data.members.values()]
    (tmp_path / "groups.csv").rename("g.csv")
    moved = prepare_search(None, out=tmp_path / "run", resume=True, overrides=("data.groups=csv:g.csv",))
    assert [list(moved.data.members[split]) for split in moved.data.members] == [list(rows) for rows in first.data.members.values()]
    assert prepare_search(None, out=tmp_path / "run", resume=True).data.groups is not None, "it is noted"
    Path("other.csv").write_text("\n".join(["name,group", *reversed(rows)]) + "\n")
    with pytest.raises(RunError, match=r"data\.groups .*g\.csv, not .*other\.csv"):
        prepare_search(None, out=tmp_path / "run", resume=True, overrides=("data.groups=csv:other.csv",))


def test_promote_takes_the_runs_images_wherever_they_lie_and_says_what_changed(
    stripes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = Path(shutil.copytree(stripes, tmp_path / "images"))
    run = small_search("images", tmp_path / "run", trials=1, rungs=[1], epoch_images=32).run
    arch = SPACE.decode([0] * len(SPACE.genes), 3)
    run.write_arch(arch)
    notes: list[str] = []

    def promote(data: str | None = None) -> list[PromoteEvent]:
        events: list[PromoteEvent] = []
        api.promote(run, [arch.id], epochs=1, data=data, formats=["tflite"], on_event=events.append, on_note=notes.append)
        return events

    assert [event.kind for event in promote()] == ["started", "epoch", "done"]
    images = images.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="not there any more"):
        promote()
    assert [event.kind for event in promote(str(images))] == ["known"], "the same images under another name"
    assert [event.kind for event in promote()] == ["known"]
    assert notes == []
    (images / "down" / "0.png").unlink()
    with pytest.raises(RunError, match=r"191 images.*begun with 192"):
        promote(str(images))
    with pytest.raises(RunError, match=r"191 images.*begun with 192"):
        api.export(str(run.path), arch.id, out=tmp_path / "out", data=str(images))
    assert [event.kind for event in promote()] == ["started", "epoch", "done"]
    assert len(notes) == 1
    assert "changed since the search" in notes[0] and "191 images" in notes[0] and "192 images" in notes[0]
    assert "changed since the search" in (run.net_dir(arch.id) / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("before", [None, "mine"])
def test_a_search_that_fails_before_its_first_trial_leaves_nothing(prepare: Prepare, tmp_path: Path, before: str | None) -> None:
    if before is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / before).write_text("stays")
    with pytest.raises(BudgetError, match=r"macs: the smallest network needs.*\n.*\n.*is not kept"):
        prepare(trials=1, overrides=("budget.macs=10", "pool=20")).go()
    assert [p.name for p in tmp_path.glob("run/*")] == ([] if before is None else [before])
    assert (tmp_path / "run").exists() is (before is not None)
    assert prepare(trials=1).run.config_file.exists(), "the same command with another limit"


def test_ctrl_c_before_the_first_trial_leaves_nothing_and_behind_it_all(stripes: str, tmp_path: Path) -> None:
    def interrupt(kind: str) -> Callable[[SearchEvent], None]:
        def on_event(event: SearchEvent) -> None:
            if event.kind == kind:
                raise KeyboardInterrupt

        return on_event

    for kind, kept in (("pool", False), ("trial", True)):
        one = small_search(stripes, tmp_path / kind, trials=2, rungs=[1], epoch_images=32)
        assert one.go(interrupt(kind)).interrupted
        assert one.run.path.exists() is kept
    again = prepare_search(None, out=tmp_path / "trial", resume=True)
    with pytest.raises(TypeError):
        again.go(lambda event: event.kind + 1)  # type: ignore[operator]
    assert again.run.config_file.exists(), "what was there before is never removed"


# runs from elsewhere ----------------------------------------------------------------------------------


def test_a_password_is_not_kept(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://tn:s3cret@127.0.0.1:1/tn?sslmode=prefer&password=t0p"
    run = prepare(trials=1, storage=url).run
    assert run.config["settings"]["storage"] == "postgresql://tn@127.0.0.1:1/tn?sslmode=prefer"
    assert prepare_search(None, out=run.path, resume=True).settings.storage == "postgresql://tn@127.0.0.1:1/tn?sslmode=prefer"
    assert prepare_search(None, out=run.path, resume=True, storage=url).settings.storage == url
    monkeypatch.setenv("TINYNAS_STORAGE", url)
    assert prepare_search(None, out=run.path, resume=True).settings.storage == url
    assert prepare("other", trials=1).settings.storage == url
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"s3cret", b"t0p")), path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@w/x@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("mysql://h/d?passwd=p&charset=utf8", "mysql://h/d?charset=utf8"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("u:p@h/d", "***@h/d"),
    ],
)
def test_a_storage_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_run_from_elsewhere_uses_no_network_unasked(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(trials=1).run
    settings = run.config["settings"]
    given: dict[str, Any] = {"data": "hf:some/set"}
    for config, option, value in (
        ({**run.config, "data": "hf:some/set"}, "data", "hf:some/set"),
        ({**run.config, "data": "//host/share"}, "data", "//host/share"),
        ({**run.config, "settings": {**settings, "storage": "postgresql://h/d"}}, "storage", "postgresql://h/d"),
        ({**run.config, "settings": {**settings, "storage": "sqlite:////a/b.db"}}, "storage", "sqlite:////a/b.db"),
    ):
        run.config_file.write_text(yaml.safe_dump(config))
        with pytest.raises(RunError, match=f"comes from elsewhere and names --{option} {value}") as caught:
            prepare_search(None, out=run.path, resume=True)
        assert f"--{option} {value}" in str(caught.value.hint)
    with pytest.raises(RunError, match="comes from elsewhere and names --storage"):
        worker(run.path)
    # One place named is not the other one trusted.
    run.config_file.write_text(yaml.safe_dump({**run.config, "data": "hf:some/set", "data_options": {}}))
    for call in (lambda: api.promote(run.path), lambda: api.export(str(run.path), "0123456789", out=tmp_path / "o")):
        with pytest.raises(RunError):
            call()
    opened = Run.open(run.path)
    opened.ask("data", "hf:some/set")
    opened.moved(data=given)
    with pytest.raises(RunError, match="--storage"):
        Run.open(run.path).ask("storage", None)
    opened.ask("storage", "sqlite:////a/b.db")
    opened.moved(storage="sqlite:////a/b.db")
    Run.open(run.path).ask("storage", None)  # begun or continued here with both: not asked again
    Run.open(run.path).ask("data", None)
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "another user's"))
    with pytest.raises(RunError, match="--storage"):
        Run.open(run.path).ask("storage", None)


def test_a_study_that_a_storage_does_not_hold_is_not_begun_anew(stripes: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    one = small_search(stripes, tmp_path / "run", trials=1, rungs=[1], epoch_images=32, storage=url)
    one.go()
    records = one.run.trials_file.read_bytes()
    with pytest.raises(RunError, match=r"b\.db: does not hold the study"):
        prepare_search(None, out=one.run.path, resume=True, trials=2, storage=f"sqlite:///{tmp_path}/b.db").go()
    assert one.run.trials_file.read_bytes() == records
    (tmp_path / "a.db").rename(tmp_path / "moved.db")
    result = prepare_search(None, out=one.run.path, resume=True, trials=2, storage=f"sqlite:///{tmp_path}/moved.db").go()
    assert result.counts.trained == 2
    assert one.run.trials_file.read_bytes().startswith(records)
    assert Run.open(one.run.path).config["settings"]["storage"] == f"sqlite:///{tmp_path}/moved.db"
