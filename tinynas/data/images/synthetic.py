"""The built-in data set: is a person-like figure in the picture? Rendered in code, so the first run needs no download.

Every picture has a textured scene, look-alike distractors (posts with a ball on top, trees, four-legged things, loose
limbs) and things in front. Half of them have a figure: head, trunk, two arms and two legs in a random pose. Many of the
others have a decoy: the same parts, in the same colors, put together wrongly (head beside the trunk, below it or missing;
limbs loose). Colors alone therefore say little; a network has to see parts and how they are joined.

A picture follows from (seed, split, index) and the settings alone. It is no photograph: accuracies on it compare
networks with each other and say nothing about people in front of a camera.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.assemble import one_label_each
from tinynas.data.cache import mapped
from tinynas.data.dataset import DataSet
from tinynas.data.images.decode import Image
from tinynas.data.images.signal import image_signal
from tinynas.data.options import DataOptions, SyntheticOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Record
from tinynas.data.split import SPLITS
from tinynas.files import cache_dir

GENERATOR = 2
"""Version of the drawing; part of the fingerprint."""
LABELS = ("no_person", "person")
SKIN = np.array([(255, 219, 172), (241, 194, 125), (224, 172, 105), (198, 134, 66), (141, 85, 36), (90, 56, 37)], np.float64)
"""Head and hand colors of most figures, RGB; some distractors have them too."""

Color = tuple[float, float, float]
Point = tuple[float, float]


def open_synthetic(options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None) -> DataSet:
    """The built-in set with ``options.synthetic``; drawn once (about 2,000 images/s a core) and kept in the cache."""
    if options.multilabel:
        raise one_label_each("synthetic", "image")
    settings = options.synthetic
    draw = seed if options.seed is None else options.seed
    key = json.dumps([GENERATOR, draw, settings.model_dump(mode="json")], sort_keys=True)
    fingerprint = hashlib.sha256(f"tinynas synthetic {key}".encode()).hexdigest()
    store = cache or cache_dir()
    records: list[Record] = []
    members: dict[str, NDArray[np.int64]] = {}
    truths: list[int] = []
    sources: list[tuple[str, int]] = []
    for split in SPLITS:
        count = min(getattr(settings, split), options.limit or settings.train + settings.val + settings.test)
        members[split] = np.arange(len(records), len(records) + count)
        for i in range(count):
            truth = label_of(i)
            truths.append(truth)
            name = f"{split}/{LABELS[truth]}/{i:06d}"
            records.append(
                Record(
                    name, LABELS[truth], split, hashlib.sha256(f"{fingerprint}{name}".encode()).hexdigest(), (settings.size, settings.size)
                )
            )
            sources.append((split, i))
    targets = np.array(truths, dtype=np.int64)
    flipped = 0
    if settings.label_noise:
        rng = np.random.default_rng((draw, 77))
        rows = members["train"][rng.random(len(members["train"])) < settings.label_noise]
        targets[rows] = 1 - targets[rows]
        flipped = len(rows)
    pictures: dict[str, NDArray[np.uint8]] = {}
    drawing = threading.Lock()

    def read(i: int) -> Image:
        split, index = sources[i]
        with drawing:
            if split in pictures:
                return np.asarray(pictures[split][index])
            count = len(members[split])

            def make() -> Iterator[NDArray[np.uint8]]:
                for start in range(0, count, 256):
                    stop = min(start + 256, count)
                    yield np.stack([render(draw, split, k, settings) for k in range(start, stop)])
                    if on_progress is not None:
                        on_progress(f"drawing {split} images", stop, count)

            path = store / "synthetic" / f"{fingerprint[:24]}-{split}-{count}.npy"
            pictures[split] = mapped(path, (count, settings.size, settings.size, 3), make)
            return np.asarray(pictures[split][index])

    notes = [f"built-in synthetic images of person-like figures ({', '.join(f'{len(members[s]):,} {s}' for s in SPLITS)}): no photographs"]
    if flipped:
        notes.append(f"label noise: {flipped:,} of {len(members['train']):,} training labels are flipped on purpose")
    return DataSet(
        name="synthetic",
        signal=image_signal(options),
        labels=LABELS,
        fingerprint=fingerprint,
        notes=tuple(notes),
        records=tuple(records),
        targets=targets,
        members=members,
        bad=(),
        leaks=(),
        straddles=(),
        duplicates=0,
        read=read,
        options=options,
        cache=store,
        on_progress=on_progress,
    )


def label_of(index: int) -> int:
    """The true class of picture ``index`` of any split: half of each."""
    return index & 1


def render(seed: int, split: str, index: int, settings: SyntheticOptions) -> Image:
    """Picture ``index`` of ``split``: RGB uint8 (size, size, 3)."""
    painter = _Painter(np.random.default_rng((seed, SPLITS.index(split), index)), settings.size, settings.difficulty)
    return painter.paint(label_of(index) == 1)


class _Painter:
    """Draws one picture; all positions are in units of the picture's side."""

    def __init__(self, rng: np.random.Generator, size: int, difficulty: float) -> None:
        self.rng = rng
        self.size = size
        # Pictures differ in difficulty: the easy ones are learnt within a few thousand images, the hard ones tell networks apart.
        self.hard = min(1.0, difficulty * (0.25 + 1.5 * float(rng.random())))
        self.canvas: Image = np.zeros((size, size, 3), np.uint8)
        self.numbers: Iterator[float] = iter(rng.random(4096).tolist())  # one call for all of them: ten times faster

    def paint(self, person: bool) -> Image:
        self._background()
        for _ in range(int(self.u() * (2 + 7 * self.hard))):
            self._distractor()
        height = self._between(0.85 - 0.55 * self.hard, 1.0 - 0.2 * self.hard)
        if person:
            self._figure(height, decoy=False)
        elif self.u() < 0.05 + 0.85 * self.hard:
            self._figure(height, decoy=True)
        for _ in range(int(self.u() * (1 + 3 * self.hard))):
            self._in_front()
        return self._photograph()

    # numbers ------------------------------------------------------------------------------------------

    def u(self) -> float:
        return next(self.numbers)

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self.u()

    def _color(self) -> Color:
        grey, spread = self._between(30, 225), self._between(10, 80)
        return (grey + spread * (self.u() - 0.5) * 2, grey + spread * (self.u() - 0.5) * 2, grey + spread * (self.u() - 0.5) * 2)

    def _skin(self) -> Color:
        base = SKIN[int(self.u() * len(SKIN))] * self._between(0.85, 1.1)
        return (float(base[0]), float(base[1]), float(base[2]))

    # strokes ------------------------------------------------------------------------------------------

    def _line(self, a: Point, b: Point, width: float, color: Color) -> None:
        scale = self.size * 16
        cv2.line(
            self.canvas,
            (int(a[0] * scale), int(a[1] * scale)),
            (int(b[0] * scale), int(b[1] * scale)),
            color,
            max(1, round(width * self.size)),
            cv2.LINE_AA,
            4,
        )

    def _ellipse(self, centre: Point, axes: Point, angle: float, color: Color) -> None:
        scale = self.size * 16
        cv2.ellipse(
            self.canvas,
            (int(centre[0] * scale), int(centre[1] * scale)),
            (max(1, int(axes[0] * scale)), max(1, int(axes[1] * scale))),
            angle,
            0,
            360,
            color,
            -1,
            cv2.LINE_AA,
            4,
        )

    def _polygon(self, points: list[Point], color: Color) -> None:
        cv2.fillConvexPoly(self.canvas, (np.array(points) * self.size * 16).astype(np.int32), color, cv2.LINE_AA, 4)

    # the scene ----------------------------------------------------------------------------------------

    def _background(self) -> None:
        size, rng = self.size, self.rng
        top, bottom = np.array(self._color()), np.array(self._color())
        ramp = np.linspace(0, 1, size)[:, None, None]
        if self.u() < 0.5:
            ramp = (ramp > self._between(0.4, 0.8)).astype(np.float64)  # a horizon
        scene = np.broadcast_to(top + (bottom - top) * ramp, (size, size, 3)).astype(np.float32)
        strength = self._between(5, 10 + 60 * self.hard)
        for cells in (3, 7, 16, 40):
            noise = rng.standard_normal((cells, cells, 3 if self.u() < 0.5 else 1), dtype=np.float32)
            noise = cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR).reshape(size, size, -1)
            scene = scene + noise * (strength * self._between(0.2, 0.7))
        self.canvas = np.ascontiguousarray(np.clip(scene, 0, 255), dtype=np.uint8)
        if self.u() < 0.5:  # bricks, fences, floors
            step, color, upright = self._between(0.06, 0.25), self._color(), self.u() < 0.5
            position, width = self.u() * step, self._between(0.005, 0.03)
            while position < 1:
                ends = ((position, 0.0), (position, 1.0)) if upright else ((0.0, position), (1.0, position))
                self._line(ends[0], ends[1], width, color)
                position += step
        for _ in range(int(self.u() * 3)):
            x, y, w, h = self.u() - 0.2, self.u() * 0.7, self._between(0.15, 0.6), self._between(0.15, 0.6)
            self._polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], self._color())

    def _distractor(self) -> None:
        kind, x, y, size = int(self.u() * 6), self.u(), self._between(0.2, 0.9), self._between(0.15, 0.6)
        color, other = self._color(), self._skin() if self.u() < 0.4 else self._color()
        thin = size * self._between(0.05, 0.2)
        if kind == 0:  # a post with a ball, a tree
            self._line((x, y), (x, y - size), thin, color)
            crown = size * self._between(0.08, 0.3)
            self._ellipse((x, y - size), (crown, crown * self._between(0.8, 1.4)), 0, other)
        elif kind == 1:  # four legs and a top
            for leg in (-0.5, -0.3, 0.3, 0.5):
                self._line((x + leg * size, y), (x + leg * size, y - size * 0.6), thin * 0.6, color)
            self._line((x - size * 0.55, y - size * 0.6), (x + size * 0.55, y - size * 0.6), thin, other)
        elif kind == 2:  # a cross or a sign
            self._line((x, y), (x, y - size), thin, color)
            self._line((x - size * 0.3, y - size * 0.75), (x + size * 0.3, y - size * 0.75), thin, other)
        elif kind == 3:  # balls
            for _ in range(3):
                radius = size * self._between(0.05, 0.25)
                self._ellipse((x + size * (self.u() - 0.5), y - size * self.u()), (radius, radius), 0, other)
        elif kind == 4:  # loose limbs
            for _ in range(4):
                a = (x + size * (self.u() - 0.5), y - size * self.u())
                self._line(
                    a,
                    (a[0] + size * (self.u() - 0.5) * 0.7, a[1] + size * (self.u() - 0.5) * 0.7),
                    thin,
                    color if self.u() < 0.5 else other,
                )
        else:  # a box
            wide = size * self._between(0.2, 0.5)
            self._polygon([(x - wide, y), (x + wide, y), (x + wide, y - size), (x - wide, y - size)], color)

    def _in_front(self) -> None:
        color = self._color()
        if self.u() < 0.5:
            x, width = self.u(), self._between(0.01, 0.03 + 0.07 * self.hard)
            self._line((x, -0.1), (x + 0.2 * (self.u() - 0.5), 1.1), width, color)
        else:
            x, y = self.u(), self.u()
            self._ellipse(
                (x, y), (self._between(0.02, 0.06 + 0.1 * self.hard), self._between(0.02, 0.06 + 0.1 * self.hard)), self.u() * 180, color
            )

    # the figure ---------------------------------------------------------------------------------------

    def _figure(self, height: float, *, decoy: bool) -> None:
        """A figure ``height`` tall; a decoy has its parts joined wrongly."""
        u, between = self.u, self._between
        skin = self._skin() if u() < 0.8 else self._color()
        shirt, trousers = self._color(), self._color()
        sleeves = shirt if u() < 0.6 else skin
        lean = (u() - 0.5) * (0.2 + 0.7 * self.hard)
        turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
        foot = np.array([between(0.15, 0.85), between(max(0.55, height * 0.8), 1.05)])
        build = between(0.8, 1.25)

        def at(x: float, y: float) -> Point:
            """``x`` to the right of and ``y`` above the feet, in figure heights."""
            moved = foot + turn @ (np.array([x, -y]) * height)
            return float(moved[0]), float(moved[1])

        limb = 0.055 * height * build
        hip, shoulder, neck = 0.48, 0.80, 0.84
        legs, arms = between(0.03, 0.16), between(0.0, 1.0)
        head_at, swap, loose = (0.0, 0.92), False, False
        if decoy:
            fault = int(u() * 4)
            if fault == 0:  # head in the wrong place
                head_at = (between(0.25, 0.5) * (1 if u() < 0.5 else -1), between(0.1, 0.8))
            elif fault == 1:  # head between the legs
                head_at = (between(-0.1, 0.1), between(-0.05, 0.3))
            elif fault == 2:  # upside down
                swap = True
            else:
                loose = True
        parts = []

        def flip(y: float) -> float:
            return 0.96 - y if swap else y

        shift = [((u() - 0.5) * 0.9, (u() - 0.5) * 0.7) if loose else (0.0, 0.0) for _ in range(4)]
        for side, (dx, dy) in zip((-1, 1), shift[:2], strict=True):
            knee_x = side * legs * between(0.5, 1.2)
            parts.append((at(side * 0.05 + dx, flip(hip) + dy), at(knee_x + dx, flip(0.25) + dy), limb * 1.15, trousers))
            parts.append((at(knee_x + dx, flip(0.25) + dy), at(side * legs * between(0.6, 1.4) + dx, flip(0.01) + dy), limb, trousers))
        self._strokes(parts)
        wide = 0.115 * build
        self._polygon(
            [at(-wide, flip(shoulder)), at(wide, flip(shoulder)), at(wide * 0.75, flip(hip - 0.03)), at(-wide * 0.75, flip(hip - 0.03))],
            shirt,
        )
        parts = []
        for side, (dx, dy) in zip((-1, 1), shift[2:], strict=True):
            raised = arms * between(0.3, 1.0) * (1.0 if u() < 0.75 else 2.4)
            elbow = (side * (wide + 0.14 * np.sin(raised)) + dx, shoulder - 0.15 * np.cos(raised) + dy)
            bend = raised + between(-0.3, 0.9)
            hand = (elbow[0] + side * 0.15 * np.sin(bend), elbow[1] - 0.15 * np.cos(bend))
            parts.append((at(side * wide + dx, flip(shoulder - 0.02) + dy), at(elbow[0], flip(elbow[1])), limb * 0.9, shirt))
            parts.append((at(elbow[0], flip(elbow[1])), at(hand[0], flip(hand[1])), limb * 0.75, sleeves))
        self._strokes(parts)
        if head_at[0] == 0.0:
            self._line(at(0, flip(shoulder)), at(0, flip(neck + 0.03)), limb, skin)
        head = at(head_at[0], flip(head_at[1]))
        self._ellipse(head, (0.058 * height * build, 0.078 * height), lean * 57, skin)
        if u() < 0.8:  # hair or a hat
            top = at(head_at[0], flip(head_at[1] + 0.04))
            self._ellipse(top, (0.06 * height * build, 0.045 * height), lean * 57, self._color())

    def _strokes(self, parts: list[tuple[Point, Point, float, Color]]) -> None:
        for a, b, width, color in parts:
            self._line(a, b, width, color)

    # the camera ---------------------------------------------------------------------------------------

    def _photograph(self) -> Image:
        picture = self.canvas.astype(np.float32)
        contrast, light = self._between(1 - 0.6 * self.hard, 1.1), self._between(-30, 30) * (0.4 + self.hard)
        picture = (picture - 128) * contrast + 128 + light
        if self.u() < 0.5:  # light from one side
            ramp = np.linspace(-1, 1, self.size, dtype=np.float32) * self._between(0, 50 * self.hard)
            picture += ramp[:, None, None] if self.u() < 0.5 else ramp[None, :, None]
        noise = self.rng.standard_normal((self.size, self.size, 1), dtype=np.float32) * self._between(1, 4 + 14 * self.hard)
        picture = np.clip(picture + noise, 0, 255)
        sigma = self._between(0.0, 0.3 + 1.0 * self.hard) * self.size / 96
        if sigma > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        return np.asarray(picture).astype(np.uint8)
