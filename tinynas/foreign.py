"""What a file or folder is that is given as a network, told by its content: a .tflite under any name, or a model of another kind.

Models of other frameworks are not read; they are named, with what makes a .tflite of them. So are the things that lie where a model
should: a Git LFS pointer, a web page, an archive, an empty file.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from tinynas.errors import ModelFileError

_CONVERT = "convert it to .tflite"
_KERAS = f"{_CONVERT}: tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(FILE))"
_SAVED = f"{_CONVERT}: tf.lite.TFLiteConverter.from_saved_model(FOLDER)"
_TORCH = f"{_CONVERT}: with ai-edge-torch, or through ONNX and onnx2tf"
_ONNX = f"{_CONVERT}: with onnx2tf"
_UNPACK = "unpack it first"

#: Bytes of a file that are looked at.
_LOOK = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """What a path is."""

    title: str
    """``a .tflite model``, ``an ONNX model``, ...; "" where it is nothing that is known as a model (a YAML, a missing file)."""
    remedy: str = ""
    """What to do about it."""

    @property
    def is_tflite(self) -> bool:
        """Whether it is a TensorFlow Lite model, whatever its name."""
        return self == TFLITE

    def error(self, path: str | Path) -> ModelFileError:
        """The error for ``path`` where a .tflite is needed."""
        return ModelFileError(f"{path}: is {self.title or 'not a .tflite file (no TFL3 mark at byte 4)'}", self.remedy or _CONVERT)


TFLITE = Found("a .tflite model")
_NOTHING = Found("")

#: First bytes of a file -> what it is.
_MARKS: tuple[tuple[bytes, Found], ...] = (
    (b"\x89HDF\r\n\x1a\n", Found("an HDF5 file, as Keras writes models and weights (.h5)", _KERAS)),
    (b"\x1f\x8b", Found("a gzip archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Found("a 7z archive", _UNPACK)),
    (b"Rar!", Found("a RAR archive", _UNPACK)),
    (b"\xfd7zXZ", Found("an xz archive", _UNPACK)),
    (b"BZh", Found("a bzip2 archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Found("a zstandard archive", _UNPACK)),
    (b"GGUF", Found("a GGUF model", "no microcontroller runtime reads it")),
    (b"version https://git-lfs", Found("a Git LFS pointer, not the model itself", "fetch the model: git lfs pull")),
    (b"\x80\x02", Found("a Python pickle, as PyTorch writes models (.pt, .pth)", _TORCH)),
    (b"\x80\x03", Found("a Python pickle", _TORCH)),
    (b"\x80\x04", Found("a Python pickle", _TORCH)),
    (b"\x80\x05", Found("a Python pickle", _TORCH)),
    (b"\x93NUMPY", Found("a NumPy array", "give the model that it belongs to, as .tflite")),
)
#: Bytes 4 to 8 of a flatbuffer -> what it is.
_IDENTIFIERS = {
    b"TFL3": TFLITE,
    b"ORTM": Found("an ONNX Runtime model (.ort)", _ONNX),
    b"ET12": Found("an ExecuTorch program (.pte)", _TORCH),
}
#: Names of files whose content has no mark of its own.
_SUFFIXES = {
    ".onnx": Found("an ONNX model", _ONNX),
    ".pb": Found("a TensorFlow graph (.pb)", f"{_SAVED}; a saved_model.pb needs its folder"),
    ".pbtxt": Found("a TensorFlow graph in text (.pbtxt)", _SAVED),
    ".ckpt": Found("a checkpoint", _CONVERT),
    ".index": Found("a part of a TensorFlow checkpoint", _SAVED),
    ".meta": Found("a part of a TensorFlow checkpoint", _SAVED),
    ".pt": Found("a PyTorch model", _TORCH),
    ".pth": Found("a PyTorch model", _TORCH),
    ".ptl": Found("a PyTorch Lite model", _TORCH),
    ".mlmodel": Found("a Core ML model", _CONVERT),
    ".caffemodel": Found("a Caffe model", _CONVERT),
    ".prototxt": Found("a Caffe network", _CONVERT),
    ".engine": Found("a TensorRT engine", "give the model that it was made from, as .tflite"),
    ".nb": Found("a model compiled for an NPU", "give the .tflite that it was made from"),
    ".mnn": Found("an MNN model", _CONVERT),
    ".cc": Found("C++ source", "give the .tflite that was turned into it"),
    ".cpp": Found("C++ source", "give the .tflite that was turned into it"),
    ".c": Found("C source", "give the .tflite that was turned into it"),
    ".h": Found("a C header", "give the .tflite that was turned into it"),
    ".elf": Found("a firmware image", "give the .tflite that is in it"),
}


def what_is(path: str | Path) -> Found:
    """What ``path`` is; an empty :class:`Found` for what cannot be read, and for text, which another reader knows."""
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            return _NOTHING
        with path.open("rb") as file:
            head = file.read(_LOOK)
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return _NOTHING
    return _file(path, head)


def require_tflite(path: str | Path) -> None:
    """Raises ModelFileError where ``path`` is there and is no .tflite, with what it is instead. Whether it is sound is for its reader."""
    found = what_is(path)
    if not found.is_tflite and (found.title or Path(path).is_file()):
        raise found.error(path)


def refuse_models(path: str | Path) -> None:
    """Raises ModelFileError where a network's description is needed and ``path`` is a finished model or another thing that is none."""
    found = what_is(path)
    if found.is_tflite:
        raise ModelFileError(
            f"{path}: is a finished .tflite model, and this needs an architecture",
            "give an arch YAML, a zoo name or RUN:ID; estimate and evaluate take a .tflite",
        )
    if found.title:
        raise found.error(path)


def _folder(path: Path) -> Found:
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return Found("a TensorFlow SavedModel", f"{_SAVED}")
    if (path / "Manifest.json").is_file() and (path / "Data").is_dir():
        return Found("a Core ML package", _CONVERT)
    if (path / "model.json").is_file() and any(path.glob("*.bin")):
        return Found("a TensorFlow.js model", f"{_CONVERT}: tensorflowjs_converter makes a SavedModel of it, TFLiteConverter the rest")
    if (path / "config.yaml").is_file() and (path / "nets").is_dir():
        return Found("a run", f"name one of its networks: {path}:ID (tinynas pareto {path} lists them)")
    inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in {".tflite", ".lite"})[:3]
    if inside:
        return Found("a folder", f"give the file in it: {path / inside[0]}")
    return Found("a folder without a model that is known", "give a file")


def _file(path: Path, head: bytes) -> Found:
    suffix = path.suffix.lower()
    if head[4:8] in _IDENTIFIERS:
        return _IDENTIFIERS[head[4:8]]
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    for mark, found in _MARKS:
        if head.startswith(mark):
            return found
    if head[257:262] == b"ustar":
        return Found("a tar archive", _UNPACK)
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**40:
        return Found("safetensors weights without a network", "give the network as .tflite")
    if not head and suffix in {".tflite", ".lite", *_SUFFIXES}:
        return Found("an empty file", "copy or download the model again")
    if head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html")):
        return Found("a web page, not the model", "download the file itself (on GitHub: the raw file)")
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if _onnx(head):
        return _SUFFIXES[".onnx"]
    if suffix in {".tflite", ".lite"}:
        return Found("not a .tflite file, for all its name (no TFL3 mark at byte 4)", "copy, download or convert the model again")
    return _NOTHING


def _onnx(head: bytes) -> bool:
    # A protobuf that begins with its version (field 1, a small number) and the name of what wrote it (field 2).
    return len(head) > 4 and head[0] == 0x08 and 1 <= head[1] <= 20 and head[2] == 0x12 and 2 <= head[3] <= 40 and head[4:5].isalpha()


def _archive(path: Path) -> Found:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:10_000]
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile):
        return Found("a broken zip archive", "copy or download it again")
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "model.weights.h5" in last and "config.json" in last:
        return Found("a Keras model (.keras)", _KERAS)
    if "data.pkl" in last:
        return Found("a PyTorch model", _TORCH)
    if "saved_model.pb" in last:
        return Found("a zipped TensorFlow SavedModel", f"unpack it and {_SAVED}")
    models = [name for name in names if name.lower().endswith((".tflite", ".lite"))]
    if models:
        return Found(f"a zip archive that holds {models[0][:80]}", _UNPACK)
    if all(name.endswith(".npy") for name in names):
        return Found("NumPy arrays (.npz)", "give the model that they belong to, as .tflite")
    return Found("a zip archive", _UNPACK)
