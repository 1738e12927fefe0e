"""The firmware folder of streams on emulated cores: SRAM, stack and flash beside what was promised, and the instructions of a step.

Causal networks drawn from two spaces, with random weights on the stored sound of the self-test, are built into their folder, which runs
its self-test on each core; then the network alone runs in steps. Writes results/benchmarks/stream_firmware.{json,md}.

    python benchmarks/stream_firmware.py
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinynas.api import load_space
from tinynas.arch import Arch
from tinynas.cost import estimate, plan_offline
from tinynas.cost.front_end import front_end_cost
from tinynas.export.compiled_verify import verify_network
from tinynas.export.sound_code import front_end_code
from tinynas.export.sound_firmware import stored_clip
from tinynas.export.stream_firmware import RUNTIME, build_stream_firmware
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.files import write_atomic
from tinynas.graph import lower
from tinynas.model import Network, normalise
from tinynas.quantize import QuantizedGraph, fold, quantize
from tinynas.sound.features import features
from tinynas.target.cores import CORES, Core
from tinynas.target.program import run_front_end

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "stream_firmware.json"
#: Spaces whose networks are drawn, and how many of each.
DRAWN = {"listen": 2, "listen-1d": 2}
TARGETS = ("cortex-m4", "cortex-m0plus")
CLASSES = 4


def quantized(arch: Arch, seed: int) -> QuantizedGraph:
    """``arch`` with random weights, calibrated on the stored sound."""
    assert arch.front_end is not None
    sound = stored_clip(arch.front_end)[0]
    clips = features(np.stack([np.roll(sound, 997 * number) for number in range(8)]), arch.front_end)
    network = Network(lower(arch), seed=seed).train()
    with torch.no_grad():
        for _ in range(20):
            network(normalise(torch.from_numpy(clips), arch.input))
    return quantize(fold(network.eval()), clips)


def measured(arch: Arch, qgraph: QuantizedGraph, folder: Path, core: Core) -> dict[str, Any]:
    """What the folder takes on ``core``, beside its promise."""
    assert arch.front_end is not None
    held = storable(qgraph)
    model = serialize(held, ModelMeta("0123456789", tuple("abcd")), plan_offline(held.graph))
    for name, content in build_stream_firmware(qgraph, model, labels=list("abcd"), name="net", core=core.name).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    found = verify_network(model, "net", qgraph.graph, RUNTIME, core, folder)
    cost = estimate(qgraph.graph, RUNTIME, core=core.name)
    front = front_end_cost(arch.front_end, CLASSES, core=core.name, compiled=True, every=1)
    ran = run_front_end(core, "net", front_end_code(arch.front_end, "net"), stored_clip(arch.front_end).tolist())
    around = (found.folder_bytes or 0) - (found.network_bytes or 0) - ran.flash_bytes
    assert cost.stream is not None
    return {
        "good": found.good,
        "problems": found.problems,
        "outputs": [found.equal_outputs, found.compared_outputs],
        "self_test": [found.firmware.equal_images, found.firmware.images],
        "sram_bytes": [found.static_bytes, found.promised_static_bytes],
        "network_sram_bytes": [found.used_work_bytes, found.promised_work_bytes],
        "stack_bytes": [max(found.stack_bytes or 0, ran.stack_bytes), max(found.promised_stack_bytes, front.stack_bytes)],
        "network_flash_bytes": [found.network_bytes, found.promised_network_bytes],
        "front_end_flash_bytes": [ran.flash_bytes, front.flash_bytes],
        "around_bytes": [around, front.around_bytes],
        "folder_flash_bytes": [found.folder_bytes, found.promised_folder_bytes],
        "program_bytes": found.firmware.program_bytes,
        "step_instructions": [found.step_instructions, found.inference_instructions],
        "longest_step": [[name, count] for name, count in found.instructions],
        "frame_instructions": [ran.frame_instructions, front.instructions],
        "macs_a_step": [cost.stream.average_macs, cost.stream.most_macs],
        "stride_ms": arch.front_end.stride_ms,
    }


def table(rows: dict[str, dict[str, Any]], command: str) -> str:
    """For people."""
    lines = [
        "# The folder of a stream on emulated cores",
        "",
        f"`{command}`. Causal networks drawn from two spaces, random weights, int8; gcc -O2. Measured (promised), in bytes:",
        "the SRAM of all variables of the folder as linked (each on full words it is what is promised), the deeper stack of network and",
        "front end, and flash as linked: of network and front end alone, what hear.c, classifier.c and labels add to them, all of it in",
        "a program that hears and asks for class, label and score. Promised is at most: a full table of chances, labels of 11 letters.",
        "Every self-test passes, and every output is tflite-micro's.",
        "",
        "| network, core | SRAM in all | stack | flash: network | front end | around them | the three | example with C library |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def both(pair: list[Any]) -> str:
        return f"{pair[0]:,} ({pair[1]:,})"

    for name, row in rows.items():
        keys = ("sram_bytes", "stack_bytes", "network_flash_bytes", "front_end_flash_bytes", "around_bytes", "folder_flash_bytes")
        lines.append(f"| {name} | {' | '.join(both(row[key]) for key in keys)} | {row['program_bytes']:,} |")
    lines += [
        "",
        "Executed instructions, of which those of a frame of the front end alone are promised, and multiply-accumulates:",
        "",
        "| network, core | a frame | a step: mean, most | MACs a step: mean, most | of both in a second |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        mean, most = row["step_instructions"]
        macs = f"{row['macs_a_step'][0]:,.0f}, {row['macs_a_step'][1]:,}"
        second = (mean + row["frame_instructions"][0]) * 1000 / row["stride_ms"]
        lines.append(f"| {name} | {both(row['frame_instructions'])} | {mean:,.0f}, {most:,} | {macs} | {second / 1e6:.1f} M |")
    missing = "Not shown: trained networks, real boards, time. The example's printf and C library are in no promise."
    return "\n".join([*lines, "", missing, ""])


def main() -> None:
    torch.set_num_threads(1)
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, count in DRAWN.items():
            space = load_space(name, ["causal=true"])
            draw = random.Random(name)
            for number in range(count):
                arch = space.sample(lambda _, n: draw.randrange(n), CLASSES)  # noqa: B023
                qgraph = quantized(arch, number)
                for target in TARGETS:
                    folder = Path(scratch) / f"{name}{number}{target}"
                    rows[f"{name} {arch.id}, {target}"] = measured(arch, qgraph, folder, CORES[target])
                    print(name, arch.id, target, rows[f"{name} {arch.id}, {target}"], flush=True)
    command = "python benchmarks/stream_firmware.py"
    write_atomic(OUT, (json.dumps({"command": command, "rows": rows}, indent=1) + "\n").encode())
    write_atomic(OUT.with_suffix(".md"), table(rows, command).encode())


if __name__ == "__main__":
    main()
