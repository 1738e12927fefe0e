"""How fast sounds reach a training: variants kept in the cache, made anew in every epoch, and a plain PyTorch DataLoader.

Writes results/benchmarks/sound_throughput.{json,md}. One process and one thread each:

1. ``features``: a front end over clips of a second that are in memory, 256 at a time: what every variant costs once;
2. ``variants``: samples changed (shift, room, background, gain) and through the front end, as a new variant is made;
3. ``kept``: batches of an epoch from variants that are in the cache, masked: what a training waits for in every epoch;
4. ``DataLoader``: torch's own, 0 workers, over the same WAV files: read, resampled to the rate, shifted, noise added, log-mel of
   ``torch.stft`` with a filter bank as a matrix, masked, one clip after the other: what most training scripts do.

    python benchmarks/sound_throughput.py [--clips 512] [--out results/benchmarks]

Recordings are made here: noise and tones of a second at 16 kHz. What it does not show: GPUs, compressed formats, and what
variants that come again cost in accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch

from tinynas import __version__
from tinynas.data import DataOptions, Split, open_data
from tinynas.data.sounds.augment import make_sound_augmenter
from tinynas.data.sounds.change import Changer
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input
from tinynas.recipe import Augment, SoundAugment
from tinynas.sound.features import features

ROOT = Path(__file__).resolve().parent.parent
BATCH = 64
HEARS = FrontEnd()


def rate(run: Callable[[], int], seconds: float = 3.0) -> float:
    """Clips a second of processor time of ``run``, which returns how many it made, after one warm-up: other work does not count."""
    run()
    clips, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        clips += run()
    return clips / spent


class Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A file is read, changed and transformed whenever it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        points = torch.linspace(0, HEARS.sample_rate / 2, HEARS.fft_size // 2 + 1)
        mel = 2595 * torch.log10(1 + points / 700)
        edges = torch.linspace(float(mel[1]), float(mel[-1]), HEARS.bins + 2)
        up = (mel[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        down = (edges[2:, None] - mel[None]) / (edges[2:] - edges[1:-1])[:, None]
        self.bank = torch.minimum(up, down).clamp_min(0)
        self.window = torch.hann_window(HEARS.window)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        samples, _ = soundfile.read(self.files[i], dtype="float32")
        wave = torch.roll(torch.from_numpy(samples), int(torch.randint(-1600, 1600, ())))
        wave = wave + 0.01 * torch.randn(len(wave))
        spectrum = torch.stft(wave, HEARS.fft_size, HEARS.stride, HEARS.window, window=self.window, center=False, return_complex=True).abs()
        mel = torch.log(self.bank @ spectrum**2 + 1e-6)
        first = int(torch.randint(0, 40, ()))
        mel[:, first : first + 5] = mel.mean()
        return mel, i % 2


def an_epoch(split: Split, settings: SoundAugment) -> Callable[[], int]:
    augmenter = make_sound_augmenter(Augment(sound=settings), split, 0)
    epoch = iter(range(1 << 30))

    def run() -> int:
        number = next(epoch)
        for start in range(0, len(split), BATCH):
            rows = np.arange(start, min(start + BATCH, len(split)))
            augmenter(split.inputs[rows], number, rows)
        return len(split)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = SoundAugment(time_masks=1, band_masks=1)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i in range(arguments.clips):
            draw = np.random.default_rng(i)
            wave = draw.normal(0, 0.02, 16000) + 0.2 * np.sin(2 * np.pi * (300 + 5 * i) * np.arange(16000) / 16000)
            files.append(Path(folder) / "set" / "ab"[i % 2] / f"{i}.wav")
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(files[-1], wave, 16000)
        data = open_data(Path(folder) / "set", cache_dir=Path(folder) / "cache", options=DataOptions(val_share=0.1, test_share=0.1))
        split = data.read_by(Input(*HEARS.shape, "features", front_end=HEARS), "train")
        samples = np.stack([soundfile.read(file, dtype="int16")[0] for file in files[:256]])
        changer, numbers = Changer(), np.arange(len(samples))
        loader = torch.utils.data.DataLoader(Files(files), batch_size=BATCH, shuffle=True)
        rates = {
            "features": rate(lambda: len(features(samples, HEARS))),
            "variants": rate(lambda: len(features(changer(samples, HEARS, settings, 0, numbers), HEARS))),
            "kept": rate(an_epoch(split, settings)),
            "DataLoader": rate(lambda: sum(len(labels) for _, labels in loader)),
        }
    document = {
        "tinynas": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
        "clips": arguments.clips,
        "clips_per_second": {name: round(value) for name, value in rates.items()},
    }
    words = {
        "features": "front end alone, once for each front end",
        "variants": "a new variant: changed and through the front end, once",
        "kept": "an epoch from variants that are kept, masked",
        "DataLoader": "PyTorch DataLoader, everything in every epoch",
    }
    lines = [
        "# Sounds a second",
        "",
        f"Made by `benchmarks/sound_throughput.py` with tinynas {__version__} on {document['machine']} (clips of 1 s, 16 kHz, 49 x 40 "
        "features; processor time).",
        "",
        "| what | clips/s |",
        "|---|---:|",
        *(f"| {words[name]} | {value:,.0f} |" for name, value in rates.items()),
        "",
        "Not shown: GPUs, compressed formats, what variants that come again cost in accuracy.",
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sound_throughput.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "sound_throughput.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
