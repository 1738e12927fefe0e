"""The Python API's corridor: what is given by name, in settings and by --set arrives, and nothing of it is ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import RunError, UserError
from tinynas.recipe import Recipe
from tinynas.search import SearchSettings

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
