"""The front end's bytes by Python, by C on this machine and on an emulated Cortex-M4, and by TFLM's own library, over real recordings.

Recordings are resampled to the front end's rate, and their first seconds taken. Python and C see all of them, TFLM's library too where its
sources are there (channels before they become bytes); the emulated core sees the first 100 ms behind the loudest sample of some.

    python benchmarks/front_end_equal.py --data ../shared/data/audio --tflm ../shared/tflm --recordings 200
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tinynas.export.sound_code import front_end_code
from tinynas.files import write_atomic
from tinynas.front_end import FrontEnd
from tinynas.sound.features import features, logarithms
from tinynas.target.cores import CORES
from tinynas.target.program import run_front_end

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "front_end_equal.json"
sys.path.insert(0, str(ROOT / "tests"))

from sound_c import frames_of, program  # noqa: E402
from sound_library import library_of, logarithms_of  # noqa: E402

FRONT_ENDS = {
    "micro_speech's": FrontEnd(window_ms=30, stride_ms=20, bins=40),
    "micro wake word's": FrontEnd(window_ms=30, stride_ms=10, bins=40),
    "plain": FrontEnd(window_ms=64, stride_ms=32, bins=64, noise_reduction=False, pcan=False),
    "mfcc": FrontEnd(kind="mfcc", window_ms=40, stride_ms=20, bins=40, coefficients=10),
    "8 kHz": FrontEnd(sample_rate=8000, window_ms=32, stride_ms=16, bins=32),
}
#: Recordings that the emulated core hears, and the milliseconds of each.
EMULATED, EMULATED_MS = 20, 100


def recordings(folder: Path, count: int) -> list[Path]:
    """``count`` recordings, evenly over all of them by their digests, so that every class and speaker is among them."""
    found = [path for path in folder.rglob("*") if path.suffix in {".wav", ".ogg", ".flac"}]
    return sorted(found, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())[:count]


def clip(path: Path, front_end: FrontEnd) -> NDArray[np.int16]:
    """The beginning of a recording at the front end's rate, silence behind a short one."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    heard = soxr.resample(samples.mean(axis=1), rate, front_end.sample_rate)[: front_end.clip_samples]
    whole = np.zeros(front_end.clip_samples, np.int16)
    whole[: len(heard)] = np.clip(np.rint(heard * 32768), -32768, 32767).astype(np.int16)
    return whole


def compared(front_end: FrontEnd, paths: list[Path], library: Path | None, scratch: Path) -> dict[str, object]:
    """Numbers of bytes that were compared and that differ."""
    clips = np.stack([clip(path, front_end) for path in paths])
    began = time.process_time()
    python = features(clips, front_end)
    seconds = time.process_time() - began
    c = frames_of(program(front_end, scratch / "c", "-O2"), clips, front_end)
    row: dict[str, object] = {
        "front_end": front_end.summary,
        "recordings": len(paths),
        "bytes": python.size,
        "c_differ": int((c != python).sum()),
        "python_clips_a_second": round(len(clips) / seconds),
    }
    if library is not None:
        channels = logarithms(clips, front_end)
        row |= {"channels": channels.size, "library_differ": int((channels != logarithms_of(library, clips, front_end)).sum())}
    short = front_end.model_validate({**front_end.model_dump(), "clip_ms": max(EMULATED_MS, front_end.window_ms)})
    starts = np.minimum(np.abs(clips.astype(np.int32)).argmax(axis=1), front_end.clip_samples - short.clip_samples)[:EMULATED]
    heard = np.stack([whole[start : start + short.clip_samples] for whole, start in zip(clips, starts, strict=False)])
    ran = run_front_end(CORES["cortex-m4"], "net", front_end_code(short, "net"), heard.tolist())
    wanted = features(heard, short)
    got = np.frombuffer(b"".join(ran.frames), np.uint8).reshape(wanted.shape)
    return row | {"emulated_recordings": len(heard), "emulated_bytes": wanted.size, "emulated_differ": int((got != wanted).sum())}


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--data", type=Path, required=True)
    parse.add_argument("--tflm", type=Path)
    parse.add_argument("--recordings", type=int, default=200)
    given = parse.parse_args()
    paths = recordings(given.data, given.recordings)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        library = None if given.tflm is None else library_of(given.tflm, scratch)
        rows = {name: compared(front_end, paths, library, scratch) for name, front_end in FRONT_ENDS.items()}
    document = {"command": "python benchmarks/front_end_equal.py --data DIR --tflm DIR --recordings 200", "rows": rows}
    write_atomic(OUT, (json.dumps(document, indent=1) + "\n").encode())
    for name, row in rows.items():
        print(name, row)


if __name__ == "__main__":
    main()
