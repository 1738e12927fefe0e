"""What a machine of a cluster is sent, and keeps in memory, when several of its processes train on the same images.

    python benchmarks/cluster_sharing.py

What it measures. A Dask scheduler and three workers are started here: two with one cache, as two processes of a machine have, and one
with a cache of its own, as another machine has. A search of small networks trains on them (noise, 64 x 64 pixels, ``--images`` of them).
Bytes sent are what the search handed to Dask for each machine, beside the bytes that its cache then holds. Memory is read from
/proc/PID/smaps at the moment amid the trainings when most is there: of the mapped arrays what each process has resident (Rss), its share
of it where what others map too is divided among them (Pss), and what is its own alone (Anonymous: pages that were copied). Then a
second search of the same images: what it sends.

What it does not show. Networks between machines, and what PyTorch itself takes in each process, which nothing shares. The two machines
share this one's page cache but not their files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from tinynas.api import prepare_search
from tinynas.budget import load_budget
from tinynas.files import write_atomic
from tinynas.search import Place, SearchEvent, SearchSettings, cluster
from tinynas.space import Space

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks"
MACHINES = {"one": ("one", "two"), "other": ("three",)}
"""Machine -> its worker processes."""
SPACE = Space.model_validate(
    {
        "name": "small",
        "resolution": 64,
        "stem": {"out": [4, 8], "stride": 2},
        "stages": [{"out": [8, 16], "depth": [1, 2], "kernel": [3, 5], "expand": [1, 2], "stride": 2}],
    }
)


def write_images(folder: Path, count: int) -> None:
    """Noise of two brightnesses, 64 x 64."""
    rng = np.random.default_rng(0)
    for number in range(count):
        label = folder / ("bright" if number % 2 else "dark")
        label.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 120, (64, 64, 3), dtype=np.uint8) + np.uint8(100 * (number % 2))
        cv2.imwrite(str(label / f"{number}.bmp"), image)


def mapped(pid: int, folder: Path) -> dict[str, int]:
    """Bytes that a process has of the arrays under ``folder``, which it maps."""
    found = dict.fromkeys(("Size", "Rss", "Pss", "Anonymous"), 0)
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = str(folder) in line and line.endswith(".npy")
        elif ours and (name := line.partition(":")[0]) in found:
            found[name] += 1024 * int(line.split()[1])
    return found


def started(held: ExitStack, folder: Path, name: str, module: str, *arguments: str, cache: Path | None = None) -> int:
    environment = {**os.environ, **({} if cache is None else {"TINYNAS_CACHE": str(cache)})}
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
        env=environment,
        cwd=folder,
        stderr=(folder / f"{name}.log").open("wb"),
    )
    held.callback(process.wait)
    held.callback(process.kill)
    return process.pid


def says(log: Path, what: str) -> None:
    """Wait until a process says something."""
    while what not in log.read_text(encoding="utf-8"):
        time.sleep(0.5)


def measure(images: int, trials: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as held:
        folder = Path(temporary)
        os.environ["TINYNAS_CACHE"] = str(folder / "search")
        write_images(folder / "images", images)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        host, port = address.split(":")
        place = Place(f"tcp://{address}")
        started(held, folder, "scheduler", "dask_scheduler", "--host", host, "--port", port)
        says(folder / "scheduler.log", "Scheduler at")
        pids = {
            name: started(
                held, folder, name, "dask_worker", address, "--nthreads", "1", "--no-nanny", "--name", name, cache=folder / machine
            )
            for machine, names in MACHINES.items()
            for name in names
        }
        for name in pids:
            says(folder / f"{name}.log", "Registered to")
        opened: list[cluster.Cluster] = []
        make = cluster.Cluster.__init__

        def remembered(self: cluster.Cluster, *given: Any) -> None:
            make(self, *given)
            opened.append(self)

        cluster.Cluster.__init__ = remembered  # type: ignore[method-assign]
        settings = SearchSettings.model_validate({"rungs": [1], "pool": 60, "recipe": {"augment": {"kind": "none"}}, "choose_space": False})

        moments: list[dict[str, dict[str, int]]] = []

        def looked(_: SearchEvent) -> None:
            moments.append(
                {name: mapped(pids[name], folder / machine / "cluster") for machine, names in MACHINES.items() for name in names}
            )

        def search(name: str, count: int) -> None:
            one = prepare_search(
                load_budget("stm32f746"), space=SPACE, data=str(folder / "images"), out=folder / name, trials=count, settings=settings
            )
            replace(one, cluster=place).go(looked)

        # All three take part in the first: those that import more slowly are waited for.
        with cluster.Cluster.opened(place) as at:
            while at.slots() < len(pids):
                time.sleep(cluster.LOOK)
                at.look()
        search("first", trials)
        kept = {
            machine: sum(
                path.stat().st_size for path in (folder / machine / "cluster").rglob("*") if path.suffix in (".npy", ".safetensors")
            )
            for machine in MACHINES
        }
        ids = {machine: (folder / machine / "cluster" / "machine").read_text(encoding="ascii") for machine in MACHINES}
        sent = {machine: sum(size for name, _, size in opened[1].sent if name == ids[machine]) for machine in MACHINES}
        memory = max(
            moments, key=lambda moment: tuple(sum(row[name] for row in moment.values()) * sign for name, sign in (("Rss", 1), ("Pss", -1)))
        )
        search("second", 3)
        again = sum(size for _, _, size in opened[2].sent)
    return {"images": images, "trainings": trials, "sent": sent, "kept": kept, "memory": memory, "sent by a second search": again}


def report(found: dict[str, Any]) -> str:
    def size(value: int) -> str:
        return f"{value / 1e6:.1f} MB"

    lines = [
        "# Images of a cluster: sent once to a machine, and kept once in its memory",
        "",
        f"{found['images']:,} images of 64 x 64, {found['trainings']} trainings on three workers, two of which are of one machine (they "
        "share a cache). Made by `python benchmarks/cluster_sharing.py`; what the figures do not show is said there.",
        "",
        "| machine | sent to it | its cache holds |",
        "|---|--:|--:|",
        *(f"| {name} | {size(found['sent'][name])} | {size(found['kept'][name])} |" for name in found["sent"]),
        "",
        f"A second search of the same images sends {size(found['sent by a second search'])}.",
        "",
        "| worker | arrays mapped | resident | its share | its own alone |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {name} | {size(row['Size'])} | {size(row['Rss'])} | {size(row['Pss'])} | {size(row['Anonymous'])} |"
            for name, row in found["memory"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--trials", type=int, default=9)
    options = parser.parse_args()
    found = measure(options.images, options.trials)
    write_atomic(RESULTS / "cluster_sharing.json", json.dumps(found, indent=1) + "\n")
    write_atomic(RESULTS / "cluster_sharing.md", report(found))
    print(report(found))


if __name__ == "__main__":
    main()
