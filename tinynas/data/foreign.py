"""Files that are not read: formats by name with what to do about them, and layouts that say where things are in an image (boxes, masks)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tinynas.data.walk import Folder, regular
from tinynas.errors import counted, printable


@dataclass(frozen=True)
class Kind:
    """Formats that share a remedy."""

    what: str
    remedy: str
    endings: frozenset[str]


def _kind(what: str, remedy: str, endings: str) -> Kind:
    return Kind(what, remedy, frozenset(f".{ending}" for ending in endings.split()))


KINDS: tuple[Kind, ...] = (
    _kind("photos of phones", "convert them to JPEG, such as: magick mogrify -format jpg *.HEIC", "heic heif hif heics"),
    _kind(
        "raw photos of cameras",
        "develop them to JPEG or PNG",
        "cr2 cr3 crw nef nrw arw srf sr2 dng raf orf rw2 pef srw x3f erf mrw 3fr kdc iiq",
    ),
    _kind(
        "images of other programs",
        "convert them to PNG, such as: magick mogrify -format png FILES",
        "tga pcx psd psb xcf kra ai eps jxl jxr wdp hdp ico cur icns dds xpm xbm exr sgi rgb pict "
        "pct fits fit fts flif bpg qoi raw yuv nv12 ktx pvr",
    ),
    _kind("drawings", "draw them as PNG, such as: magick mogrify -format png *.svg", "svg svgz emf wmf"),
    _kind("medical images", "write their slices as PNG", "dcm dicom nii mha mhd nrrd czi lsm nd2 svs"),
    _kind(
        "videos",
        "take frames out of them, such as: ffmpeg -i FILE -r 1 %05d.jpg (then --set data.groups=... keeps a video on one side)",
        "mp4 m4v avi mov mkv webm mpg mpeg wmv flv 3gp mts m2ts mjpeg mjpg ogv h264 hevc",
    ),
    _kind("documents", "take the images out of them, such as: pdfimages -all FILE page", "pdf ps doc docx ppt pptx xps djvu"),
    _kind("archives", "unpack them first", "zip tar gz tgz bz2 xz 7z rar zst"),
    _kind(
        "arrays and records",
        "write each image as a PNG file into one folder for each class",
        "npy npz mat h5 hdf5 pkl pickle tfrecord tfrecords record lmdb mdb pt pth bin idx ubyte arrow feather",
    ),
    _kind("sounds", "sounds are read from a folder that holds no images", "wav mp3 flac ogg opus aif aiff"),
    _kind("sounds of other programs", "convert them to WAV or FLAC, such as: ffmpeg -i FILE FILE.wav", "m4a aac wma amr caf au"),
)
_BY_ENDING = {ending: kind for kind in KINDS for ending in kind.endings}
_IDX = re.compile(r"(idx\d-ubyte$|^data_batch_\d|^test_batch$)")
_NOT_CLASSES = frozenset({"documents", "archives", "arrays and records", "sounds", "sounds of other programs"})


def ending(name: str) -> str:
    """The ending of a file's name, in small letters with its dot; empty where it has none."""
    return Path(name).suffix.lower()


def kind_of(name: str) -> Kind | None:
    """What a file that is not read is by its name, None where nothing is known of it."""
    if _IDX.search(name):
        return _BY_ENDING[".idx"]
    return _BY_ENDING.get(ending(name))


def is_foreign(name: str) -> bool:
    """Whether a file could show something, in a format that is not read."""
    kind = kind_of(name)
    return kind is not None and kind.what not in _NOT_CLASSES


def describe_files(names: Iterable[str]) -> list[tuple[str, str]]:
    """What is not read among ``names``: count and kind, and the remedy, the most frequent first."""
    by_kind: dict[str, Counter[str]] = {}
    kinds: dict[str, Kind] = {}
    for name in names:
        kind = kind_of(name)
        if kind is not None:
            by_kind.setdefault(kind.what, Counter())[Path(name).suffix or name] += 1
            kinds[kind.what] = kind
    told = []
    for what, endings in sorted(by_kind.items(), key=lambda pair: -pair[1].total()):
        total = endings.total()
        several = len(endings) > 1
        listed = ", ".join(printable(end) + (f" ({count:,})" if several else "") for end, count in endings.most_common(4))
        are = "is of a format that is" if total == 1 else "are of a format that is"
        told.append((f"{counted(total, 'file')} {listed} {are} not read ({what})", kinds[what].remedy))
    return told


def other_files(names: Iterable[str]) -> Counter[str]:
    """The files of which nothing is known, by ending."""
    return Counter(ending(name) or "without an ending" for name in names if kind_of(name) is None)


MAX_LOOK = 64 * 1024
LOOKS = 5


def looks_like(base: Path, names: Iterable[str], magics: Iterable[tuple[bytes, str]]) -> str | None:
    """The ending that files of an unknown kind should have: of the first few all begin as one of ``magics``. None for others."""
    heads = [_head(base / name)[:12] for name in islice((name for name in names if kind_of(name) is None), LOOKS)]
    for magic, end in magics:
        if heads and all(head.startswith(magic) for head in heads):
            return end
    return None


# layouts of boxes and masks ---------------------------------------------------------------------------

_YOLO = re.compile(r"\s*\d+(\s+-?\d*\.?\d+([eE][-+]?\d+)?){4,}\s*$")
CROP = "cut the boxes out, each into a folder of its class, or export the set again as folders of classes (classification)"


def box_layout(base: Path, root: Folder) -> str | None:
    """The layout that says where things are in the images, in words, None where none is seen. A few small files are read."""
    for folder in root.below():
        texts = _some(folder, ".txt")
        if texts and _is_yolo(base, folder, texts):
            return f"YOLO ({folder.inside(texts[0])} and others: a class and a box a line)"
        for name in _some(folder, ".xml"):
            head = _head(base / folder.inside(name))
            if b"<annotation" in head and b"<object" in head:
                return f"Pascal VOC ({folder.inside(name)} and others: boxes in XML)"
        for name in _some(folder, ".json"):
            found = _json_kind(_head(base / folder.inside(name)))
            if found is not None:
                return f"{found} ({folder.inside(name)})"
        for name in _some(folder, ".yaml") + _some(folder, ".yml"):
            if re.search(rb"(?m)^\s*names\s*:", _head(base / folder.inside(name))):
                return f"YOLO ({folder.inside(name)})"
    return None


def _some(folder: Folder, end: str) -> list[str]:
    """A few of the files that end so."""
    return list(islice((name for name in folder.others if name.lower().endswith(end)), LOOKS))


def _is_yolo(base: Path, folder: Folder, texts: list[str]) -> bool:
    lines = [
        line for name in texts[:3] for line in _head(base / folder.inside(name)).decode("ascii", "replace").splitlines()[:3] if line.strip()
    ]
    return bool(lines) and all(_YOLO.match(line) for line in lines)


def _json_kind(head: bytes) -> str | None:
    if (b'"categories"' in head and b'"images"' in head) or (b'"annotations"' in head and b'"bbox"' in head):
        return "COCO"
    if b'"shapes"' in head and b'"points"' in head:
        return "labelme"
    if b'"regions"' in head and b'"shape_attributes"' in head:
        return "VIA"
    if b'"coordinates"' in head and b'"annotations"' in head:
        return "CreateML"
    return None


def _head(path: Path) -> bytes:
    if not regular(path):
        return b""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(MAX_LOOK)
            if size > MAX_LOOK:
                file.seek(-min(MAX_LOOK, size), 2)
                data += file.read(MAX_LOOK)
            return data
    except OSError:
        return b""
