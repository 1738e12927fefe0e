"""What the C of a front end takes of flash and stack, and its instructions: the table tinynas/cost/front_end.json.

For each emulated core every variant of the code (mel or MFCC, with or without noise reduction and gain control, FFT lengths that are
powers of four or not) is compiled at -O2 for several sizes, linked into a program and run over sounds that take most: full-scale noise, a
square wave, silence. Code is what it adds to a program less its tables, the most of the sizes; the stack is painted; instructions are those
of the frame that took most. They are fitted as a sum of terms (tinynas.cost.front_end.TERMS), and raised until no frame takes more.

    python benchmarks/front_end_costs.py            # 10 minutes on one core
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.cost.front_end import TERMS, table_bytes, terms, variant
from tinynas.export.sound_code import front_end_code
from tinynas.front_end import FrontEnd
from tinynas.sound.features import features
from tinynas.target.cores import CORES, Core
from tinynas.target.program import FrontEndRun, run_front_end

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tinynas" / "cost" / "front_end.json"
#: (sample rate, window in ms, bins, coefficients): FFTs of 256 to 2,048 points, of powers of four and not.
SIZES = ((16000, 30, 40, 10), (16000, 64, 64, 20), (8000, 30, 24, 13), (22050, 40, 80, 40))
#: Of the usual variant also windows that fill their FFT and windows that do not, from 32 to 16,384 points.
MORE = (
    *(
        (8000, 4, 6, 4),
        (16000, 4, 12, 4),
        (8000, 9, 20, 4),
        (16000, 16, 30, 4),
        (16000, 10, 40, 4),
        (16000, 33, 40, 4),
        (44100, 23, 100, 4),
    ),
    *((48000, 42, 60, 4), (48000, 60, 40, 4), (44100, 100, 128, 4), (44100, 180, 40, 4), (48000, 200, 20, 4)),
)


def front_ends() -> list[FrontEnd]:
    """Every variant at every size, and the usual one at more."""
    cases = [*product(("mel", "mfcc"), (True, False), (True, False), SIZES), *product(("mel",), (True,), (True,), MORE)]
    return [
        FrontEnd(
            kind=kind,
            noise_reduction=noise,
            pcan=gain,
            sample_rate=rate,
            window_ms=window,
            bins=bins,
            coefficients=coefficients,
            stride_ms=window // 2,
            clip_ms=max(2 * window, 20),
        )
        for kind, noise, gain, (rate, window, bins, coefficients) in cases
    ]


def sounds(front_end: FrontEnd) -> np.ndarray[Any, np.dtype[np.int16]]:
    """(3, clip): what takes most."""
    count = front_end.clip_samples
    noise = np.random.default_rng(0).integers(-32768, 32768, count)
    square = np.where(np.arange(count) // 7 % 2, 32767, -32768)
    return np.stack([noise, square, np.zeros(count, np.int64)]).astype(np.int16)


def measure(front_end: FrontEnd, core: Core) -> FrontEndRun:
    """Of one front end, whose frames are compared too."""
    clips = sounds(front_end)
    ran = run_front_end(core, "net", front_end_code(front_end, "net"), clips.tolist(), piece=front_end.stride)
    if b"".join(ran.frames) != features(clips, front_end).tobytes():
        raise SystemExit(f"{core.name}: {front_end.summary}: other bytes than in Python")
    return ran


def main() -> None:
    table: dict[str, Any] = {}
    for core in CORES.values():
        runs = [(each, measure(each, core)) for each in front_ends()]
        code: dict[str, int] = {}
        for each, ran in runs:
            code[variant(each)] = max(code.get(variant(each), 0), ran.flash_bytes - table_bytes(each))
        matrix = np.array([[terms(each)[name] for name in TERMS] for each, _ in runs], float)
        counts = np.array([ran.frame_instructions for _, ran in runs], float)
        found = np.linalg.lstsq(matrix / counts[:, None], np.ones(len(counts)), rcond=None)[0]
        ratio = counts / (matrix @ found)
        found *= ratio.max()
        print(f"{core.name}: raised by {100 * (ratio.max() - 1):.2f} %, most above a count {100 * (ratio.max() / ratio.min() - 1):.2f} %")
        table[core.name] = {
            "code": dict(sorted(code.items())),
            "stack": max(ran.stack_bytes for _, ran in runs),
            "instructions": {name: round(float(value), 3) for name, value in zip(TERMS, found, strict=True)},
        }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
