"""Fits cycles per MAC by operator kind for each (core, runtime) on published latencies, with leave-one-out errors.

Writes results/benchmarks/latency_fit.{json,md} and prints the table that tinynas/cost/latency.py holds.

Inputs: the folder of public test data (``TINYNAS_TEST_DATA``, or ../shared/data beside the repository): MLPerf Tiny
results (published/latency_per_mac.csv) and the MLPerf Tiny reference models, whose MACs by kind are counted; and the
table of the TinyEngine README (figures below), whose networks are in the zoo.

The TinyEngine README does not state the STM32H743's clock. 480 MHz is the chip's highest: cycles computed from it are
an upper bound, so a latency predicted for another clock is not too small.

    python benchmarks/latency_fit.py
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np

from tinynas.arch import load_arch
from tinynas.cost.latency import KINDS, macs_by_kind
from tinynas.cost.tflite import read_model, to_work
from tinynas.cost.work import from_graph
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
MLPERF = {
    "ad": "mlcommons-tiny__ad01_int8.tflite",
    "ic": "mlcommons-tiny__pretrainedResnet_quant.tflite",
    "kws": "mlcommons-tiny__kws_ref_model.tflite",
    "vww": "mlcommons-tiny__vww_96_int8.tflite",
}
#: (core, runtime) -> [(source prefix, board)] of latency_per_mac.csv.
ROWS = {
    ("cortex-m4", "tflm"): [("MLPerf Tiny v0.5 reference", "Nucleo-L4R5ZI")],
    ("cortex-m4", "tflm-cmsis-nn"): [("MLPerf Tiny v1.1 Krai", "NUCLEO-L4R5ZI_MICROTVM-CMSIS-NN")],
    ("cortex-m33", "tflm-cmsis-nn"): [("MLPerf Tiny v1.1 Krai", "NRF5340-DK_MICROTVM-CMSIS-NN")],
    ("cortex-m4", "stedgeai"): [
        ("MLPerf Tiny v1.2 STMicroelectronics", "NUCLEO_L4R5ZI"),
        ("MLPerf Tiny v1.3 STMicroelectronics", "NUCLEO_L4R5ZI-P"),
    ],
    ("cortex-m33", "stedgeai"): [
        ("MLPerf Tiny v1.2 STMicroelectronics", "NUCLEO_U575ZI_Q"),
        ("MLPerf Tiny v1.3 STMicroelectronics", "NUCLEO_U575ZI_Q"),
    ],
    ("cortex-m7", "stedgeai"): [("MLPerf Tiny v1.2 STMicroelectronics", "NUCLEO_H7A3ZI_Q")],
}
SOURCES = {
    ("cortex-m4", "tflm"): "MLPerf Tiny v0.5 reference, NUCLEO-L4R5ZI, TFLM 2.3.1",
    ("cortex-m4", "tflm-cmsis-nn"): "MLPerf Tiny v1.1 Krai, NUCLEO-L4R5ZI: CMSIS-NN kernels called by microTVM",
    ("cortex-m33", "tflm-cmsis-nn"): "MLPerf Tiny v1.1 Krai, nRF5340: CMSIS-NN kernels called by microTVM",
    ("cortex-m4", "stedgeai"): "MLPerf Tiny v1.2 and v1.3 STMicroelectronics, NUCLEO-L4R5ZI",
    ("cortex-m33", "stedgeai"): "MLPerf Tiny v1.2 and v1.3 STMicroelectronics, NUCLEO-U575ZI-Q",
    ("cortex-m7", "stedgeai"): "MLPerf Tiny v1.2 STMicroelectronics, NUCLEO-H7A3ZI-Q",
    ("cortex-m7", "tflm"): "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)",
    ("cortex-m7", "tflm-cmsis-nn"): "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)",
    ("cortex-m7", "tinyengine"): "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)",
}
#: Milliseconds on an STM32H743: TinyEngine README (mit-han-lab/tinyengine), -Ofast; OOM where missing.
H743_MHZ = 480.0
H743 = {
    "tflm": {"mcunet-vww0": 587, "mcunet-vww1": 1120, "mcunet-in2": 6463},
    "tflm-cmsis-nn": {"mcunet-vww0": 53, "mcunet-vww1": 97, "mcunet-in2": 642},
    "tinyengine": {"mcunet-vww0": 27, "mcunet-vww1": 51, "mcunet-in2": 280, "mcunet-in4": 463},
}
#: Weight of the pull of every kind's coefficient towards their common mean: few rows cannot tell four kinds apart.
RIDGE = 0.02


def rows() -> dict[tuple[str, str], list[tuple[str, np.ndarray, float]]]:
    """(core, runtime) -> [(model, MACs by kind, measured cycles)]."""
    macs = {model: macs_by_kind(to_work(read_model(DATA / "models" / name)).pieces) for model, name in MLPERF.items()}
    found: dict[tuple[str, str], list[tuple[str, np.ndarray, float]]] = {}
    with (DATA / "published" / "latency_per_mac.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for key, wanted in ROWS.items():
                if (row["source"], row["board"]) in wanted and row["model"] in macs:
                    cycles = float(row["latency_ms"]) * float(row["clock_MHz"]) * 1000
                    found.setdefault(key, []).append((row["model"], np.array(macs[row["model"]], float), cycles))
    for runtime, table in H743.items():
        for name, ms in table.items():
            vector = np.array(macs_by_kind(from_graph(lower(load_arch(name))).pieces), float)
            found.setdefault(("cortex-m7", runtime), []).append((name, vector, ms * H743_MHZ * 1000))
    return found


def fit(samples: list[tuple[str, np.ndarray, float]]) -> np.ndarray:
    """Cycles per MAC by kind: relative least squares with a pull towards the common mean; never negative."""
    a = np.stack([vector / cycles for _, vector, cycles in samples])
    mean = float((1 / a.sum(1)).mean())
    # Unknowns: common value and the deviation of each kind, in units of the mean.
    kinds = len(KINDS)
    design = np.concatenate([a.sum(1, keepdims=True), a], axis=1) * mean
    pull = np.concatenate([np.zeros((kinds, 1)), np.sqrt(RIDGE * len(samples)) * np.eye(kinds)], axis=1)
    solution = np.linalg.lstsq(np.concatenate([design, pull]), np.concatenate([np.ones(len(samples)), np.zeros(kinds)]), rcond=None)[0]
    return np.maximum(mean * (solution[0] + solution[1:]), 0.0)


def leave_one_out(samples: list[tuple[str, np.ndarray, float]]) -> dict[str, float]:
    """Model -> relative error when all rows of that model are left out (the largest of its rows, signed)."""
    errors = {}
    for model in dict.fromkeys(name for name, _, _ in samples):
        coefficients = fit([s for s in samples if s[0] != model])
        worst = [(float(vector @ coefficients) - cycles) / cycles for name, vector, cycles in samples if name == model]
        errors[model] = max(worst, key=abs)
    return errors


def main() -> int:
    result = []
    for key, samples in sorted(rows().items()):
        coefficients = [round(float(c), 3) for c in fit(samples)]
        errors = leave_one_out(samples)
        fitted = {name: (float(vector @ np.array(coefficients)) - cycles) / cycles for name, vector, cycles in samples}
        result.append(
            {
                "core": key[0],
                "runtime": key[1],
                "rows": len(samples),
                "models": list(errors),
                "cycles_per_mac": dict(zip(KINDS, coefficients, strict=True)),
                "leave_one_out": {name: round(error, 4) for name, error in errors.items()},
                "leave_one_out_max": round(max(map(abs, errors.values())), 3),
                "fit_max": round(max(map(abs, fitted.values())), 3),
                "source": SOURCES[key],
            }
        )
    out = ROOT / "results" / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    (out / "latency_fit.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        "# Latency: cycles per MAC, fitted on published measurements",
        "",
        "Made by `benchmarks/latency_fit.py`. Error: a model's latency predicted from the other models of the row only.",
        "No row: no published measurement, and `latency_ms` is null.",
        "",
        "| core | runtime | rows | dense | 1x1 | depthwise | connected | fit, max error | left out, error by model | source |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for row in result:
        cycles = " | ".join(f"{c:.2f}" for c in row["cycles_per_mac"].values())
        errors = ", ".join(f"{name} {error:+.0%}" for name, error in row["leave_one_out"].items())
        lines.append(f"| {row['core']} | {row['runtime']} | {row['rows']} | {cycles} | {row['fit_max']:.0%} | {errors} | {row['source']} |")
    (out / "latency_fit.md").write_text("\n".join(lines) + "\n")
    for row in result:
        cycles = ", ".join(str(c) for c in row["cycles_per_mac"].values())
        print(f'    ("{row["core"]}", "{row["runtime"]}"): LatencyModel(({cycles}), {row["leave_one_out_max"]}, "{row["source"]}"),')
    print("\n".join(lines), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
