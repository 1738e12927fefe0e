"""Networks of TensorFlow's converter: the arena that tflite-micro takes, or the operator that it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_keras import needs_tensorflow
from tflm_many import run_many

from tinynas.cost.tflite import parse_model
from tinynas.export.keras import tensorflow_python

pytest.importorskip("tflite_micro")


@pytest.mark.slow
@needs_tensorflow
def test_networks_of_the_converter_are_exact_or_refused(tmp_path: Path) -> None:
    script = Path(__file__).with_name("converter_nets.py")
    subprocess.run([tensorflow_python(), str(script), str(tmp_path)], capture_output=True, timeout=1200, check=True)
    paths = sorted(tmp_path.glob("*.tflite"))
    files = [path.read_bytes() for path in paths]
    exact = refused = 0
    for path, file, ran in zip(paths, files, run_many(files), strict=True):
        cost = parse_model(file).estimate()
        assert bool(ran.error) == bool(cost.reasons), (path.name, ran.error, cost.reasons)
        if ran.error:
            refused += 1
        else:
            measured = (ran.head, ran.head + ran.tail)
            assert (cost.head_bytes + cost.wider_head_bytes, cost.host_arena_bytes) == measured, path.name
            exact += 1
    assert exact >= 16 and refused >= 1, (exact, refused)
