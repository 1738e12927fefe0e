"""What TFLM's kernel of each operator takes in the arena, estimated and as tflite-micro's recording allocator says it.

For every operator of the table in tinynas.cost.kernels and every element type that TFLM accepts: a file of that one operator
(tests/op_files.py), its head and total on a 64-bit host, estimated and measured, and what the operator takes by itself on a 32-bit
Cortex-M with the reference and the CMSIS-NN kernels. Also which element types are refused. Does not show operators that call other
graphs of a file or keep state (tests/test_cost_tflite.py has those), nor networks (cost_accuracy.py).

    python benchmarks/tflm_kernels.py        writes results/benchmarks/tflm_kernels.md
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from op_files import KINDS, TYPES, VARIANTS, op_file  # noqa: E402
from tflm_many import run_many  # noqa: E402

from tinynas.cost.kernel import aligned  # noqa: E402
from tinynas.cost.tflite import parse_model  # noqa: E402


def _taken(persistent: int, scratch: tuple[int, ...]) -> str:
    return f"{persistent:,} + {sum(aligned(size) for size in scratch):,}" if scratch else f"{persistent:,}"


def main() -> int:
    """Measure and write the table; 1 where an estimate is not what was measured."""
    names = [(kind, dtype) for kind in KINDS for dtype in TYPES]
    files = [op_file(*name) for name in names] + [make() for make in VARIANTS.values()]
    ran = run_many(files)
    rows, refused, wrong, exact = [], [], 0, 0
    for kind in KINDS:
        accepted = []
        for (other, dtype), file, done in zip(names, files, ran, strict=False):
            if other != kind or done.error:
                continue
            accepted.append(dtype)
            cost = parse_model(file).estimate()
            needs = cost.work.pieces[0].needs
            assert needs is not None
            estimated = (cost.head_bytes + cost.wider_head_bytes, cost.host_arena_bytes)
            measured = (done.head, done.head + done.tail)
            wrong += estimated != measured
            exact += estimated == measured
            own = [_taken(needs[build].persistent_bytes, needs[build].scratch) for build in ("mcu", "cmsis", "host")]
            same = "yes" if estimated == measured else f"**no: {estimated}**"
            rows.append(f"| {kind} | {dtype} | {' | '.join(own)} | {measured[0]:,} | {measured[1]:,} | {same} |")
        refused.append(f"| {kind} | {', '.join(accepted)} | {', '.join(t for t in TYPES if t not in accepted)} |")
    for name, file, done in zip(VARIANTS, files[len(names) :], ran[len(names) :], strict=True):
        cost = parse_model(file).estimate()
        estimated = (cost.head_bytes + cost.wider_head_bytes, cost.host_arena_bytes)
        measured = (done.head, done.head + done.tail)
        wrong += estimated != measured
        exact += estimated == measured
        rows.append(
            f"| {name} | | | | | {measured[0]:,} | {measured[1]:,} | {'yes' if estimated == measured else f'**no: {estimated}**'} |"
        )
    text = f"""# TFLM's arena by operator

Made by `benchmarks/tflm_kernels.py` with tflite-micro {metadata.version("tflite-micro")}. A file of each operator in each element type
that TFLM accepts, and other forms: head (activations and scratch) and total of the arena on a 64-bit host equal the recording
allocator's to the byte in {exact} of {exact + wrong}. "Takes" is what the operator itself takes, in bytes: persistent buffers in the
tail + scratch in the head; beside it an operator has its node, its options and its tensors. 32-bit figures follow from TFLM's
structures as arm-none-eabi-g++ lays them out (`benchmarks/tflm_sizes.py`).

| operator | element type | takes, Cortex-M | takes, Cortex-M, CMSIS-NN | takes, 64-bit host | head | total | estimated the same |
|---|---|--:|--:|--:|--:|--:|---|
{chr(10).join(rows)}

## Element types

Of the activations, as tflite-micro's kernels accept and refuse them; `tinynas estimate` says which operator is refused, and why.

| operator | accepted | refused |
|---|---|---|
{chr(10).join(refused)}
"""
    (ROOT / "results" / "benchmarks" / "tflm_kernels.md").write_text(text)
    print(f"{exact} of {exact + wrong} the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
