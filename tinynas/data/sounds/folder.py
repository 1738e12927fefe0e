"""Sounds in folders: recordings that folders, tables and names label, cut into pieces, with classes of silence and of the unknown."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinynas.data.assemble import Source, assemble
from tinynas.data.dataset import DataSet
from tinynas.data.folder import Labelled, read_folder
from tinynas.data.labels import clean, joined_labels, parts_of
from tinynas.data.layout import Row
from tinynas.data.options import REST, DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, Record, Recording, plural
from tinynas.data.scan import Seen, scan
from tinynas.data.signal import Decoded
from tinynas.data.sounds.change import Changer
from tinynas.data.sounds.decode import ENDINGS, LEAST_MS, MAX_BYTES, measure, part
from tinynas.data.sounds.signal import sound_signal
from tinynas.data.split import SPLITS, order_key
from tinynas.data.table import MULTILABEL
from tinynas.data.walk import Wanted
from tinynas.errors import DataError
from tinynas.files import cache_dir

SOUNDS = Wanted(
    kind="sound",
    endings=ENDINGS,
    max_bytes=MAX_BYTES,
    magics=((b"RIFF", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"), (b"FORM", ".aiff")),
    examples=("yes/*.wav", "no/*.wav"),
    parts="if the lines are events, say where each begins and ends (columns start and end, in seconds)",
    timed=True,
)
NOISE = "_background_noise_"
"""The folder of recordings of noise in Speech Commands: no class."""
UNKNOWN = "unknown"
SILENCE = "silence"
WHOLE = 1.5
"""What is less than so many pieces long is one piece."""
SPEAKER = re.compile(r"(?:^|/)([0-9a-f]{6,})_nohash_\d+\.[^/]*$")
"""How Speech Commands calls its files: the speaker first."""
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
"""Its lists of what is not for training."""
SPEAKERS = 0.9
"""Of so many names at least."""
ROUNDED = 10.0
"""Milliseconds that an event may end behind its recording, by the decimals of its table."""
SEGMENTS = 20
"""Into so many each recording of noise is parted, so that its pieces are in all splits and none in two."""


@dataclass(frozen=True)
class Piece:
    """A part of a recording that is one input."""

    file: int
    """Position among the files."""
    start: float
    """In milliseconds."""
    end: float
    label: str
    split: str | None
    group: str | None
    whole: bool
    """Whether it is all that is meant of its file."""


def open_sounds(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The sounds below ``root``, or those that a table of labels names. Raises DataError: all that is wrong with them at once."""
    found = read_folder(root, options, SOUNDS)
    notes, faults = found.reading.notes, found.reading.faults
    store = cache or cache_dir()
    stamps = [file.stamp for file in found.files]
    seen = scan(found.names, stamps, found.read, measure, found.index(store), on_progress, kind="sound")
    bad = [Bad(name, one.problem) for name, one in zip(found.names, seen, strict=True) if one.problem is not None]
    paths = [found.base / file.path for file in found.files]
    noise = [i for i, file in enumerate(found.files) if NOISE in file.path.lower().split("/")]
    good = [i for i, one in enumerate(seen) if one.problem is None and i not in set(noise)]
    splits = _splits(found, good, options, notes, faults)
    groups = _groups(found, good, notes)
    pieces = [piece for i in good for piece in _pieces(found, i, seen[i], splits.get(i), groups.get(i), options, faults)]
    _look_at_events(found, good, seen, {piece.label for piece in pieces}, options, notes, faults)
    cut = [piece.file for piece in pieces if not piece.whole]
    if cut:
        how = f", overlapping by {options.overlap:g}" if options.overlap else ""
        recordings = plural(len(set(cut)), "recording")
        notes.append(f"{plural(len(cut), 'piece')} of {options.clip:,} ms cut out of {recordings}{how}; another length: --set data.clip=MS")
    draw = seed if options.seed is None else options.seed
    pieces = _with_unknown(pieces, found, options, draw, notes)
    if options.silence and options.multilabel:
        usable = [i for i in noise if seen[i].problem is None]
        pieces = _with_none(
            pieces,
            _of_noise(found, usable, seen, options, given=any(piece.split is not None for piece in pieces)),
            found,
            options,
            draw,
            notes,
        )
    elif options.silence:
        usable = [i for i in noise if seen[i].problem is None]
        pieces += _silence(pieces, found, usable, seen, splits, groups, options, draw, notes, faults)
    records = [_record(piece, found, seen[piece.file]) for piece in pieces]
    _check_names(found.name, records, faults)

    def read(i: int) -> Decoded:
        piece = pieces[i]
        return part(paths[piece.file], piece.start, piece.end, options.clip)

    def recording(i: int) -> Recording:
        length = float(seen[i].size[0])
        rows = [row for row in found.files[i].rows if row.start and row.label]
        named = [(row, label) for row in rows for label in (parts_of(row.label or "") if options.multilabel else [clean(row.label or "")])]
        events = [(*_times(row, found, length, []), label) for row, label in named]
        return Recording(length, tuple(events), lambda start, end: part(paths[i], start, end, 0))

    changer = Changer([paths[i] for i in noise if seen[i].problem is None])
    source = Source(
        found.name,
        sound_signal(options, changer),
        records,
        read,
        bad=bad,
        notes=notes,
        faults=faults,
        label_order=found.order_of(piece.label for piece in pieces),
        several=found.several,
        recordings={found.names[i]: recording(i) for i in dict.fromkeys(piece.file for piece in pieces)},
    )
    return assemble(source, _with_labels(options, pieces), seed=seed, cache=store, on_progress=on_progress)


# pieces -----------------------------------------------------------------------------------------------


def spans(start: float, end: float, clip: int, overlap: float) -> list[tuple[float, float]]:
    """What lies from ``start`` to ``end`` (milliseconds) in pieces of ``clip``; the last may overlap more, to reach the end.

    What is shorter than one and a half is one piece.
    """
    if end - start < WHOLE * clip:
        return [(start, end)]
    step = clip * (1 - overlap)
    count = int((end - start - clip) // step) + 1
    starts = [start + i * step for i in range(count)]
    if end - (starts[-1] + clip) >= step / 2:
        starts.append(end - clip)
    return [(at, at + clip) for at in starts]


def to_the_end(length: float, clip: int, overlap: float) -> list[tuple[float, float]]:
    """:func:`spans` of all that is ``length`` long, and one more where they leave something over."""
    found = spans(0.0, length, clip, overlap)
    return found if found[-1][1] >= length else [*found, (length - clip, length)]


def _pieces(
    found: Labelled, i: int, seen: Seen, split: str | None, group: str | None, options: DataOptions, faults: list[DataError]
) -> Iterator[Piece]:
    length, name = float(seen.size[0]), found.names[i]
    events = [row for row in found.files[i].rows if row.start]
    if options.multilabel:
        yield from _pieces_of_several(found, i, seen, split, group, options, faults)
        return
    if events:
        for row in events:
            start, end = _times(row, found, length, faults)
            if not _long_enough(start, end) or row.label is None:
                continue
            for a, b in spans(start, end, options.clip, options.overlap):
                yield Piece(i, a, b, clean(row.label), split, group or name, False)
        return
    if length < WHOLE * options.clip:
        yield Piece(i, 0.0, length, found.labels[i], split, group, True)
        return
    first, last = seen.extent or (0, round(length))
    for a, b in spans(max(0.0, min(first, last - options.clip)), max(last, min(options.clip, length)), options.clip, options.overlap):
        yield Piece(i, a, b, found.labels[i], split, group or name, False)


def _pieces_of_several(
    found: Labelled, i: int, seen: Seen, split: str | None, group: str | None, options: DataOptions, faults: list[DataError]
) -> Iterator[Piece]:
    """Pieces from the beginning to the end of a recording, each with the labels that are said of all of it and those of the events in it.

    An event is in a piece that shares half of the shorter of the two: each is in one at least.
    """
    length, name, whole = float(seen.size[0]), found.names[i], parts_of(found.labels[i])
    rows = [row for row in found.files[i].rows if row.start]
    events = [(*_times(row, found, length, faults), parts_of(row.label or "")) for row in rows]
    if not events:
        for piece in _pieces(found, i, seen, split, group, options.model_copy(update={"multilabel": False}), faults):
            yield replace(piece, label=joined_labels(whole))
        return
    for a, b in to_the_end(length, options.clip, options.overlap):
        heard = [labels for start, end, labels in events if end > start and 2 * (min(b, end) - max(a, start)) >= min(b - a, end - start)]
        yield Piece(i, a, b, joined_labels([*whole, *(label for some in heard for label in some)]), split, group or name, False)


def _times(row: Row, found: Labelled, length: float, faults: list[DataError]) -> tuple[float, float]:
    """(start, end) of an event in milliseconds; an empty one where they are no times, which is a fault."""
    try:
        start = 1000 * float(row.start)
        end = 1000 * float(row.end) if row.end else length
        if not 0 <= start < end:
            raise ValueError
    except ValueError:
        faults.append(
            DataError(
                f"{found.name}: line {row.line}: from {row.start!r} to {row.end!r} is no part of a recording",
                "start and end are seconds from its beginning, such as 12.5 and 13.75",
            )
        )
        return 0.0, 0.0
    if start >= length:
        faults.append(
            DataError(
                f"{found.name}: line {row.line}: begins at {start / 1000:g} s, and {row.file} ends at {length / 1000:g} s",
                "start and end are seconds from the beginning of the recording",
            )
        )
    return start, min(end, length)


def _long_enough(start: float, end: float) -> bool:
    return end - start > LEAST_MS - 1e-6  # tenths of seconds are no numbers of base 2


def _look_at_events(
    found: Labelled,
    good: Sequence[int],
    seen: Sequence[Seen],
    heard: set[str],
    options: DataOptions,
    notes: list[str],
    faults: list[DataError],
) -> None:
    """Say which events are not used, or not to their ends; a fault where a label that is wanted is not among those ``heard`` for it."""
    short, late, lost = list[str](), list[str](), dict[str, str]()
    for i in good:
        length = float(seen[i].size[0])
        for row in found.files[i].rows:
            start, end = _times(row, found, length, []) if row.start else (0.0, 0.0)
            if not 0 <= start < end or row.label is None:
                continue  # no event, or a fault that is said where it is cut out
            beyond = bool(row.end) and 1000 * float(row.end) > length + ROUNDED
            seconds = f"{length / 1000:g}"
            where = f"line {row.line} ({row.file}, {row.start} to {row.end or seconds} s{f', of {seconds} s' if beyond else ''})"
            if not options.multilabel and not _long_enough(start, end):
                short.append(where)
                lost.setdefault(clean(row.label), where)
            elif beyond:
                late.append(where)
    for label, where in lost.items():
        if label not in heard and (options.labels is None or label in options.labels):
            faults.append(
                DataError(
                    f"{found.name}: {label}: all its events are shorter than {LEAST_MS} ms, such as {where}",
                    "start and end are seconds from the beginning of the recording; leave the lines out where there is no more to be heard",
                )
            )
    if short:
        notes.append(f"{plural(len(short), 'event')} shorter than {LEAST_MS} ms not used, such as {short[0]}: start and end are seconds")
    if late:
        notes.append(f"{plural(len(late), 'event')} used up to the end of the recording, and not beyond it, such as {late[0]}")


def _record(piece: Piece, found: Labelled, seen: Seen) -> Record:
    name, digest = found.names[piece.file], seen.digest
    if not piece.whole:
        where = f"{piece.start / 1000:.3f}-{piece.end / 1000:.3f}"
        name, digest = f"{name}@{where}", f"{digest}@{where}"
    size = max(1, round(piece.end - piece.start)), seen.size[1]
    return Record(name, piece.label, piece.split, digest, size, piece.group, None, found.names[piece.file])


def _check_names(name: str, records: Sequence[Record], faults: list[DataError]) -> None:
    labels: dict[str, str] = {}
    for record in records:
        if labels.setdefault(record.name, record.label) != record.label:
            faults.append(
                DataError(
                    f"{name}: {record.name} is {labels[record.name]} and {record.label}: several labels at once",
                    f"a classifier learns one label a sound: keep one of the lines, or say that there may be several: {MULTILABEL}",
                )
            )
            return


# splits and groups ------------------------------------------------------------------------------------


def _splits(found: Labelled, good: Sequence[int], options: DataOptions, notes: list[str], faults: list[DataError]) -> dict[int, str | None]:
    """The split of each file: by its fold where the options say so, else what folders, a table or published lists say."""
    given = {i: found.files[i].split for i in good}
    if options.folds:
        split_of = {fold: str(split) for split, folds in options.folds.items() for fold in folds}
        pattern = re.compile(options.fold_pattern)
        by_name = {i: (match[1] if (match := pattern.search(found.names[i])) else None) for i in good}
        folds = {i: next((row.fold for row in found.files[i].rows if row.fold), by_name[i]) for i in good}
        missing = [i for i in good if folds[i] is None]
        if missing or not set(split_of) & set(folds.values()):
            example = found.names[missing[0]] if missing else f"the folds there are: {', '.join(sorted({str(f) for f in folds.values()}))}"
            faults.append(
                DataError(
                    f"{found.name}: folds: {plural(len(missing), 'sound')} of no fold, such as {example}"
                    if missing
                    else f"{found.name}: folds: no sound is of fold {', '.join(split_of)}",
                    "name a column fold in the table, or say --set 'data.fold_pattern=EXPRESSION'" if missing else example,
                )
            )
            return given
        counts = Counter(folds.values())
        notes.append("folds: " + ", ".join(f"{fold} {split_of.get(str(fold), 'train')} ({n:,})" for fold, n in sorted(counts.items())))
        return {i: split_of.get(str(folds[i]), "train") for i in good}
    listed = {split: _listed(found.base, file) for split, file in LISTS.items()}
    if all(listed.values()) and all(split is None for split in given.values()):
        keys = {i: "/".join(found.files[i].path.split("/")[-2:]) for i in good}
        notes.append(f"splits from {' and '.join(LISTS.values())}")
        return {i: next((split for split, names in listed.items() if keys[i] in names), "train") for i in good}
    return given


def _listed(base: Path, file: str) -> frozenset[str]:
    for path in (base / file, *sorted(base.glob(f"*/{file}"))):
        if path.is_file():
            return frozenset(line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if line.strip())
    return frozenset()


def _groups(found: Labelled, good: Sequence[int], notes: list[str]) -> dict[int, str]:
    """Who is heard in each file, where a table or the names say it."""
    told = {i: group for i in good if (group := next((row.group for row in found.files[i].rows if row.group), ""))}
    if told:
        return told
    spoken = {i: match[1] for i in good if (match := SPEAKER.search(found.names[i]))}
    if len(spoken) >= SPEAKERS * max(1, len(good)):
        notes.append("groups: speakers, from the names (what stands before _nohash_)")
        return spoken
    return {}


# silence and unknown ----------------------------------------------------------------------------------


def _with_unknown(pieces: list[Piece], found: Labelled, options: DataOptions, seed: int, notes: list[str]) -> list[Piece]:
    """The pieces with the classes that are merged under their new name, and no more of them than there should be."""
    if options.unknown is None:
        return pieces
    there = {piece.label for piece in pieces}
    merged = there - set(options.labels or ()) if options.unknown == (REST,) else set(options.unknown)
    missing = sorted((merged - there) | (set(options.labels or ()) - there - {UNKNOWN, SILENCE}))
    if missing:
        raise DataError(f"{found.name}: unknown: there is no label {missing[0]!r}", f"labels: {', '.join(sorted(there)[:20])}")
    others = [piece for piece in pieces if piece.label not in merged]
    kept = list(others)
    classes = len({piece.label for piece in others if options.labels is None or piece.label in options.labels})
    for split in dict.fromkeys(piece.split for piece in pieces):
        part_of = sorted(
            (piece for piece in pieces if piece.split == split and piece.label in merged),
            key=lambda piece: order_key(seed, f"{found.names[piece.file]} {piece.start}"),
        )
        most = max(1, round(options.unknown_share * sum(piece.split == split for piece in others) / max(1, classes)))
        kept += [Piece(p.file, p.start, p.end, UNKNOWN, p.split, p.group, p.whole) for p in part_of[:most]]
    count = sum(piece.label == UNKNOWN for piece in kept)
    notes.append(f"{UNKNOWN}: {count:,} of {len(pieces) - len(others):,} sounds of {plural(len(merged), 'label')}")
    return kept


def _silence(
    pieces: Sequence[Piece],
    found: Labelled,
    noise: Sequence[int],
    seen: Sequence[Seen],
    splits: dict[int, str | None],
    groups: dict[int, str],
    options: DataOptions,
    seed: int,
    notes: list[str],
    faults: list[DataError],
) -> list[Piece]:
    """Pieces of the recordings of noise, and of what lies between events; as many in each split as its other classes have on average."""
    given = any(piece.split is not None for piece in pieces)
    candidates: dict[str | None, list[Piece]] = defaultdict(list)
    for piece in _of_noise(found, noise, seen, options, given=given):
        candidates[piece.split].append(piece)
    for i in dict.fromkeys(piece.file for piece in pieces):
        length, events = float(seen[i].size[0]), [row for row in found.files[i].rows if row.start]
        heard = [_times(row, found, length, []) for row in events]  # their faults are said already
        for a, b in gaps(heard, length) if events else ():
            for start, end in spans(a, b, options.clip, 0.0) if b - a >= options.clip else ():
                middle = (start + end) / 2
                piece = Piece(
                    i, middle - options.clip / 2, middle + options.clip / 2, SILENCE, splits.get(i), groups.get(i) or found.names[i], False
                )
                candidates[splits.get(i)].append(piece)
    if not candidates:
        faults.append(
            DataError(
                f"{found.name}: silence: there are no recordings of noise, and nothing between events",
                f"put recordings of noise into a folder {NOISE}, or leave data.silence out",
            )
        )
    chosen: list[Piece] = []
    wanted = set(options.labels or ()) | {UNKNOWN}
    others = [piece for piece in pieces if options.labels is None or piece.label in wanted]
    classes = max(1, len({piece.label for piece in others}))
    for split, some in candidates.items():
        most = max(1, round(options.silence * sum(piece.split == split for piece in others) / classes))
        chosen += sorted(some, key=lambda p: order_key(seed, f"{found.names[p.file]} {p.start}"))[:most]
    if chosen:
        notes.append(f"{SILENCE}: {plural(len(chosen), 'piece')} of noise and pauses")
    return chosen


def _of_noise(found: Labelled, noise: Sequence[int], seen: Sequence[Seen], options: DataOptions, *, given: bool) -> Iterator[Piece]:
    """Pieces of the recordings of noise; shared out over the splits where these are ``given``."""
    for i in noise:
        length, segment = float(seen[i].size[0]), max(options.clip, seen[i].size[0] / SEGMENTS)
        for number in range(int(length // segment)):
            # of twenty segments 14 are for training, 3 for validation and 3 for the test
            split = SPLITS[(number % 20 >= 14) + (number % 20 >= 17)] if given else None
            group = f"{found.names[i]}@{number}"
            for a, b in spans(number * segment, (number + 1) * segment, options.clip, 0.5):
                yield Piece(i, a, min(b, a + options.clip), SILENCE, split, group, False)


def _with_none(
    pieces: Sequence[Piece], noise: Iterator[Piece], found: Labelled, options: DataOptions, seed: int, notes: list[str]
) -> list[Piece]:
    """The pieces with a label, and of those without one and of noise as many in each split as ``silence`` asks for."""
    heard = [piece for piece in pieces if piece.label]
    free = [*(piece for piece in pieces if not piece.label), *(replace(piece, label="") for piece in noise)]
    counts = Counter((piece.split, label) for piece in heard for label in parts_of(piece.label))
    classes = max(1, len({label for _, label in counts}))
    kept: list[Piece] = []
    for split in dict.fromkeys(piece.split for piece in free):
        most = max(1, round(options.silence * sum(n for (part_of, _), n in counts.items() if part_of == split) / classes))
        some = (piece for piece in free if piece.split == split)
        kept += sorted(some, key=lambda piece: order_key(seed, f"{found.names[piece.file]} {piece.start}"))[:most]
    notes.append(f"{plural(len(kept), 'piece')} of no class used, of {len(free):,}")
    return [*heard, *kept]


def gaps(heard: Sequence[tuple[float, float]], length: float) -> list[tuple[float, float]]:
    """What of 0 to ``length`` lies in none of ``heard``."""
    free, at = [], 0.0
    for start, end in sorted(heard):
        if start > at:
            free.append((at, start))
        at = max(at, end)
    return [*free, (at, length)] if length > at else free


def _with_labels(options: DataOptions, pieces: Sequence[Piece]) -> DataOptions:
    """The options with the classes made here among those that are used."""
    if options.labels is None or options.multilabel:
        return options
    made = {piece.label for piece in pieces} & {UNKNOWN if options.unknown is not None else "", SILENCE if options.silence else ""}
    labels = (*options.labels, *(label for label in (SILENCE, UNKNOWN) if label in made and label not in options.labels))
    changed = options.model_copy(update={"labels": labels})
    return changed.for_judging() if options.judged else changed
