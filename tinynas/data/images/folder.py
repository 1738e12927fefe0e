"""Images in folders: those that folders, tables and names label, each looked at once."""

from __future__ import annotations

from pathlib import Path

from tinynas.data.assemble import Source, assemble
from tinynas.data.dataset import DataSet
from tinynas.data.folder import read_folder
from tinynas.data.images.decode import EXTENSIONS, MAX_BYTES
from tinynas.data.images.signal import image_signal, made_notes, measure, sized
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.scan import scan, sort_out
from tinynas.data.walk import Wanted
from tinynas.files import cache_dir

IMAGES = Wanted(
    kind="image",
    endings=EXTENSIONS,
    max_bytes=MAX_BYTES,
    magics=(
        (b"\xff\xd8\xff", ".jpg"),
        (b"\x89PNG", ".png"),
        (b"GIF8", ".gif"),
        (b"BM", ".bmp"),
        (b"II*\x00", ".tif"),
        (b"MM\x00*", ".tif"),
        (b"RIFF", ".webp"),
    ),
    examples=("person/*.jpg", "no_person/*.jpg"),
    parts="if the lines are boxes, cut them out, each into a folder of its class",
)


def open_folder(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The images below ``root``, or those that a table of labels names. Raises DataError: all that is wrong with them at once."""
    found = read_folder(root, options, IMAGES)
    store = cache or cache_dir()
    stamps = [file.stamp for file in found.files]
    seen = scan(found.names, stamps, found.read, measure, found.index(store), on_progress, kind="image")
    records, rows, bad = sort_out(found.names, found.labels, [file.split for file in found.files], seen)
    source = Source(
        found.name,
        image_signal(options),
        sized(records, options),
        lambda i: found.read(rows[i]),
        bad=bad,
        notes=[*found.reading.notes, *made_notes(options)],
        faults=found.reading.faults,
        label_order=found.label_order,
        several=found.several,
    )
    return assemble(source, options, seed=seed, cache=store, on_progress=on_progress)
