"""Networks of the zoo that hear, and MLPerf Tiny's files of sound, beside what was published of them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tinynas.api import load_net
from tinynas.arch import Arch
from tinynas.budget import Budget
from tinynas.cli import run as cli
from tinynas.config import n_bytes
from tinynas.cost import estimate
from tinynas.cost.explain import explain
from tinynas.graph import lower

#: MLPerf Tiny (Banbury et al., arXiv 2106.07597, table 1) and its repository: multiplications, parameters, and KiB of the file.
MLPERF = {"kws_ref_model": (2_656_768, 22_604, 52.5), "ad01_int8": (264_192, 265_864, 270.0)}


def published(name: str, test_data: Path) -> dict[str, Any]:
    path = test_data / "models" / f"mlcommons-tiny__{name}.tflite"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli(["estimate", str(path), "--json"]) == 0
    document: dict[str, Any] = json.loads(said.getvalue())
    return document


@pytest.mark.parametrize("name", sorted(MLPERF))
def test_the_benchmark_s_files_cost_what_was_published(name: str, test_data: Path) -> None:
    macs, params, kib = MLPERF[name]
    cost = published(name, test_data)
    assert (cost["macs"], cost["params"], cost["runs"]) == (macs, params, True)
    assert cost["flash_bytes"] / 1024 == pytest.approx(kib, rel=0.01)


def test_ds_cnn_is_the_benchmark_s_by_hand() -> None:
    arch = load_net("ds-cnn-kws")
    assert arch.input.shape == (49, 10, 1)
    cost = estimate(lower(arch))
    kernel, depthwise, pointwise = 10 * 4 * 64, 3 * 3 * 64, 64 * 64
    assert cost.macs == 25 * 5 * (kernel + 4 * (depthwise + pointwise)) + 64 * 12 == MLPERF["kws_ref_model"][0]
    assert cost.params == kernel + 64 + 4 * (depthwise + 64 + pointwise + 64) + 64 * 12 + 12 == MLPERF["kws_ref_model"][1]
    assert [lower(arch).shape(op.output) for op in lower(arch).ops][:-2] == [(25, 5, 64)] * 9


@pytest.mark.parametrize("name", ["ds-cnn-kws", "sparknet-c16"])
def test_what_would_make_a_network_of_sound_fit_is_a_front_end_that_makes_its_input(name: str) -> None:
    arch = load_net(name)
    sram = estimate(lower(arch)).sram_bytes
    tight = Budget.model_validate({"name": "tight", "flash": n_bytes(10**6), "sram": n_bytes(sram - 400)})
    found = {change.kind: change for change in explain(arch, tight).changes}
    assert "resolution" not in found
    changed = found["front_end"]
    assert Arch.model_validate(changed.arch.model_dump()) == changed.arch and changed.cost.sram_bytes <= sram - 400
    assert re.search(r"front end's \w+ \d+ -> \d+ \(\d+ frames of \d+\)", changed.what)


def test_sparknet_is_heard_along_time_alone_and_bc_resnet_keeps_all_frames() -> None:
    spark, bc = load_net("sparknet-c16"), load_net("bc-resnet-1")
    assert {lower(spark).shape(op.output)[:2] for op in lower(spark).ops[:-2]} == {(98, 1)}
    kernels = [(out, k) for out, k in ((32, 11), (16, 15), (16, 19), (16, 29))]
    weights = sum(k * c + 16 * c for c, k in kernels) + 16 * 32 + 32 * 12
    assert estimate(lower(spark)).macs == 98 * (weights - 32 * 12) + 32 * 12
    maps = {lower(bc).shape(op.output)[:2] for op in lower(bc).ops[:-2]}
    assert maps == {(98, 20), (98, 10), (98, 5)}
    # Of the order of what their papers give: the files say what differs.
    assert 0.6 < estimate(lower(spark)).macs / 454_500 < 1 < estimate(lower(bc)).macs / 3.6e6 < 1.3
    assert 0.7 < estimate(lower(spark)).params / 4_636 < 1 and 0.7 < estimate(lower(bc)).params / 9_232 < 1
