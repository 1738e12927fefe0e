"""``tinynas doctor``: is this installation whole? Ends with a small network trained, exported and checked for real."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinynas import __version__
from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.boards import boards
from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.cost import estimate
from tinynas.errors import TinynasError, counted
from tinynas.files import cores
from tinynas.graph import lower
from tinynas.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

Status = Literal["ok", "note", "fault"]

#: Less free space than this is a fault: a run and the cache of a small data set need it.
LOW_DISK = 512 * 1024**2
#: Extras: what they are for, the module that shows they are there.
EXTRAS = {
    "tensorflow": ("a second opinion on every export", "tensorflow"),
    "postgresql": ("one search on many machines", "psycopg2"),
    "cluster": ("the same on machines that share nothing", "distributed"),
    "tensorboard": ("training curves in TensorBoard", "tensorboard"),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at. A ``note`` is no fault: something optional is not there."""

    name: str
    status: Status
    found: str
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        """False only for a fault."""
        return self.status != "fault"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**asdict(self), "ok": self.ok}


def diagnose(*, self_test: bool = True) -> list[Check]:
    """All checks, in order; nothing raises. The self-test takes about five seconds."""
    makers: list[Callable[[], Iterator[Check]]] = [_python, _packages, _device, _extras, _disk, _shipped]
    if self_test:
        makers.append(_self_test)
    checks: list[Check] = []
    for make in makers:
        try:
            checks += make()
        except Exception as error:  # a doctor that dies is no use: whatever went wrong is the finding
            checks.append(Check(make.__name__.strip("_").replace("_", " "), "fault", _told(error), _remedy(error)))
    return checks


def _told(error: Exception) -> str:
    return error.message if isinstance(error, TinynasError) else f"{type(error).__name__}: {error}"


def _remedy(error: Exception) -> str | None:
    if isinstance(error, TinynasError):
        return error.hint
    if isinstance(error, ImportError):
        return f"{_pip()} install --force-reinstall tinynas"
    return "please report this with the output of: tinynas doctor --json"


def _pip() -> str:
    return f"{Path(sys.executable).name} -m pip"


def _python() -> Iterator[Check]:
    yield Check("Python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))}, tinynas {__version__}")


def _packages() -> Iterator[Check]:
    """Every package the distribution asks for, by its own metadata."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in metadata.requires("tinynas") or ()]
    except metadata.PackageNotFoundError:
        yield Check("packages", "note", "tinynas is not installed but imported from a folder", f"{_pip()} install -e .")
        return
    found, missing = [], []
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append((requirement, "missing"))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {version}")
        else:
            missing.append((requirement, f"{version} found"))
    if missing:
        told = ", ".join(f"{requirement.name}: {why}" for requirement, why in missing)
        wanted = " ".join(f"'{requirement.name}{requirement.specifier}'" for requirement, _ in missing)
        yield Check("packages", "fault", told, f"{_pip()} install {wanted}")
    if found:
        yield Check("packages", "ok", ", ".join(found))


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Check("device", "ok", f"{torch.cuda.get_device_name()}, {_gib(free)} of {_gib(total)} free")
        # Where the daemon listens, by CUDA's documentation of the Multi-Process Service.
        if not (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists():
            yield Check("sharing", "note", "trainings of a search take turns on the GPU: CUDA's MPS is off", "nvidia-cuda-mps-control -d")
    else:
        yield Check("device", "ok", f"CPU ({torch.__version__})")
    threads, here = torch.get_num_threads(), cores()
    if threads > here:
        yield Check(
            "threads", "note", f"{threads} on {counted(here, 'core')}: they will wait for each other", f"export OMP_NUM_THREADS={here}"
        )
    else:
        yield Check("threads", "ok", f"{counted(here, 'core')}; a search trains {counted(here, 'network')} side by side")


def _extras() -> Iterator[Check]:
    for extra, (what, module) in EXTRAS.items():
        if util.find_spec(module) is not None:
            yield Check(f"extra {extra}", "ok", what)
        else:
            yield Check(f"extra {extra}", "note", f"not installed ({what})", f"{_pip()} install 'tinynas[{extra}]'")


def _disk() -> Iterator[Check]:
    from tinynas.files import cache_dir

    cache = cache_dir()
    for name, folder in (("results", Path("results")), ("cache", cache)):
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(place).free
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            remedy = "set TINYNAS_CACHE to a folder you can write to" if name == "cache" else "work in a folder you can write to"
            yield Check(name, "fault", f"{folder}: {error.strerror or error}", remedy)
            continue
        told = f"{folder}: {_gib(free)} free"
        if name == "cache" and cache.is_dir():
            told += f", {_gib(sum(f.stat().st_size for f in cache.rglob('*') if f.is_file()))} in use (it may be deleted)"
        if free < LOW_DISK:
            yield Check(name, "fault", told, f"free at least {_gib(LOW_DISK)}")
        else:
            yield Check(name, "ok", told)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _shipped() -> Iterator[Check]:
    """Every file that comes with tinynas is read, and every zoo network is costed."""
    counts = []
    for kind, read in (
        ("budgets", load_budget),
        ("search_spaces", lambda path: load(path, Space)),
        ("zoo", lambda path: estimate(lower(load_arch(str(path))))),
    ):
        files = shipped(kind)
        for path in files.values():
            read(path)
        if not files:
            yield Check(kind.replace("_", " "), "fault", "none found", f"{_pip()} install --force-reinstall tinynas")
        counts.append(f"{len(files)} {kind.replace('_', ' ')}")
    yield Check("shipped files", "ok", f"{', '.join(counts)}, {len(boards())} boards, all valid")


# The self-test -------------------------------------------------------------------------------------------


def _self_test() -> Iterator[Check]:
    """Train, quantise, write, run: the whole line on a network of a few thousand MACs."""
    import numpy as np
    import torch

    from tinynas.cost.memory import plan_offline
    from tinynas.data import Split
    from tinynas.export.sandbox import measure_arena, run_tflm
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.model import normalise
    from tinynas.quantize import FakeQuantNetwork, fold, quantize
    from tinynas.recipe import Augment, Recipe
    from tinynas.train import Trainer

    started = time.perf_counter()
    arch = _tiny_arch()
    graph = lower(arch)
    images, labels = _stripes(arch.height, 384)
    names = tuple(str(i) for i in range(len(labels)))
    split = Split(images, labels, names)
    train, val = split.take(np.arange(256)), split.take(np.arange(256, 384))
    recipe = Recipe(epochs=3, batch_size=32, lr=0.01, warmup_epochs=0, ema=0, schedule="constant", loss="ce", augment=Augment(kind="none"))
    trainer = Trainer(graph, train, val, recipe, seed=0, device=torch.device("cpu"))
    trainer.run()
    accuracy = trainer.history[-1].val_accuracy
    yield _verdict(
        "trains", accuracy > 0.9, f"{100 * accuracy:.0f} % of {len(val)} unseen images after 3 epochs", time.perf_counter() - started
    )

    started = time.perf_counter()
    qgraph = quantize(fold(trainer.network), train.inputs[:64])
    cost = estimate(graph)
    model = serialize(qgraph, ModelMeta(arch_id=arch.id, labels=("upright", "level")), plan_offline(graph))
    same_size = len(model) == cost.flash_bytes
    yield _verdict("exports", same_size, f"{len(model):,} B of .tflite, {cost.flash_bytes:,} B estimated", time.perf_counter() - started)

    started = time.perf_counter()
    outputs = run_tflm(model, val.inputs).outputs
    with torch.no_grad():
        ours = FakeQuantNetwork(qgraph).eval()(normalise(torch.from_numpy(np.array(val.inputs)), graph.input)).numpy()
    equal = float((outputs == ours).mean())
    right = float((outputs.argmax(1) == val.labels).mean())
    told = f"{100 * equal:.1f} % of output bytes as computed in training, {100 * right:.0f} % of images right in int8"
    yield _verdict("runs on TFLM", equal >= 0.999 and right > 0.9, told, time.perf_counter() - started)
    head, _tail = measure_arena(model)
    yield _verdict("arena", head == cost.head_bytes, f"{head:,} B of activations measured, {cost.head_bytes:,} B estimated", None)
    yield _loads_in_litert(model)


def _verdict(name: str, good: bool, told: str, seconds: float | None) -> Check:
    told += "" if seconds is None else f" ({seconds:.1f} s)"
    return Check(f"self-test: {name}", "ok" if good else "fault", told, None if good else _remedy(RuntimeError()))


def _loads_in_litert(model: bytes) -> Check:
    from tinynas.export.sandbox import load_litert

    loads = load_litert(model)
    refused = [f"{resolver}: {reason}" for resolver, reason in loads.items() if reason]
    return _verdict("loads in LiteRT", not refused, "; ".join(refused) or f"with {', '.join(loads)}", None)


def _tiny_arch() -> Arch:
    block = MBConv(out=8, kernel=3, expand=2, residual=True)
    return Arch(height=16, width=16, channels=3, classes=2, stem=ConvLayer(out=8, stride=2), blocks=(block,))


def _stripes(side: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Upright and level stripes of random width, phase and colour under noise: uint8 (N, side, side, 3) and labels (N,)."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    wave = rng.uniform(0.9, 1.6, (count, 1)) * np.arange(side)[None, :] + rng.uniform(0, 6.28, (count, 1))
    stripes = np.where(labels[:, None, None] == 0, np.sin(wave)[:, None, :], np.sin(wave)[:, :, None])
    stripes = np.broadcast_to(stripes, (count, side, side))
    color = rng.uniform(40, 90, (count, 1, 1, 3))
    images = 128 + stripes[..., None] * color + rng.normal(0, 12, (count, side, side, 3))
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def print_checks(checks: list[Check], console: Console) -> None:
    """One line a check, remedies below; marks are words where the terminal has no such signs."""
    from rich.table import Table
    from rich.text import Text

    signs = {"ok": ("ok", "green"), "note": ("note", "yellow"), "fault": ("FAULT", "bold red")}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        sign, style = signs[check.status]
        told = Text(check.found)
        if check.remedy is not None:
            told.append(f"\n-> {check.remedy}", "dim")
        table.add_row(Text(sign, style), check.name, told)
    console.print(table)
    faults = sum(not check.ok for check in checks)
    console.print(Text("everything works" if not faults else counted(faults, "fault"), "bold red" if faults else "bold green"))
