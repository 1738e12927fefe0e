"""Loads the interpreter's shared library with its symbols visible, then a self-test built against them, and runs it."""

import ctypes
import sys
from pathlib import Path

import tflite_micro

library = next(Path(tflite_micro.__file__).parent.rglob("_runtime*.so"))
ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
sys.exit(0 if ctypes.CDLL(sys.argv[1]).entry() else 1)
