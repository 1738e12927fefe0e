"""Shared fixtures: where the real data is, and quiet threads."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster_engine import Engine
    from thin_tflm import Emulated

    from tinynas.api import PreparedSearch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(tryfirst=True)  # before groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what a fixture made for their module go to one worker: another would make it again."""
    for item in items:
        made = getattr(item, "_fixtureinfo", None)
        if made is None or item.get_closest_marker("xdist_group") is not None:
            continue
        if any(each.scope in ("module", "class") for defined in made.name2fixturedefs.values() for each in defined):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """What is there when tests begin, stays: the garbage collector need not go through it again and again."""
    # Its plug-ins ask the collector who refers to them, and what is frozen does not answer: loaded at the end of a run it would warn.
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real images and models; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set TINYNAS_TEST_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The user's cache is neither read nor filled by tests.
    os.environ["TINYNAS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    # What tests write need not outlive a power cut. That the product asks for it is tested by disks that refuse.
    asked, os.fsync = os.fsync, lambda _: None
    yield
    os.fsync = asked


@pytest.fixture(scope="session", autouse=True)
def _kept_objects(tmp_path_factory: pytest.TempPathFactory) -> None:
    # What several tests compile is compiled once, for all workers.
    from kept_objects import install

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compilers"
    os.environ["PATH"] = install(str(folder), os.environ["PATH"])


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    """TFLM on an emulated Cortex-M4; a test is skipped, with the reason, where its tools or sources are not there."""
    from thin_tflm import emulator_of

    worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    kept = os.environ.get("TINYNAS_TARGET_CACHE", (base.parent if worker else base) / "target")
    # TFLM's messages hold the paths of its sources, and linked flash is compared: these are about as long as those of the table.
    with tempfile.TemporaryDirectory(prefix="t") as trees:
        yield emulator_of(Path(trees), Path(kept))


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes of three directions, 16 px: learnt in a few steps."""
    from search_runs import write_stripes

    return write_stripes(tmp_path_factory.mktemp("stripes"))


@pytest.fixture
def prepared(stripes: str, tmp_path: Path) -> Callable[..., PreparedSearch]:
    """Makes a small search; settings by name."""
    from search_runs import small_search

    def make(name: str = "run", **settings: Any) -> PreparedSearch:
        return small_search(stripes, tmp_path / name, **settings)

    return make


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Wherever a search looks for a cluster it finds this one: one worker on a machine of its own."""
    from cluster_engine import Engine

    from tinynas.search import cluster

    found = Engine({"tcp://one:1": tmp_path / "one"}, monkeypatch)

    @contextlib.contextmanager
    def opened(place: cluster.Place) -> Iterator[cluster.Cluster]:
        at = cluster.Cluster(place, found)
        at._wait_for_workers()
        yield at

    monkeypatch.setattr(cluster.Cluster, "opened", opened)
    monkeypatch.setattr(cluster, "LOOK", 0.0)
    return found
