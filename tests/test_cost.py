"""Costs: hand arithmetic, figures published by others, and properties that any network must have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable, load_arch
from tinynas.cost import RUNTIMES, Cost, estimate
from tinynas.cost.kernel import aligned
from tinynas.cost.tail import tail_bytes
from tinynas.cost.work import from_graph
from tinynas.errors import UserError
from tinynas.graph import lower

#: name -> (MACs, parameters with batch norm folded). Sources: the net config of mcunet-tiny2; MLPerf Tiny's visual wake
#: words reference (7,489,664); MobileNetV2 in Keras and PyTorch (300,774,272); MCUNet's README (its whole zoo, to
#: the digits that it gives: 6.0, 11.6, 55.8, 6.4, 12.8, 67.3, 81.8, 125.9, 23.5 and 38.3 M); ColabNAS's README (657 k and 2,086 k).
PUBLISHED = {
    "mcunet-tiny2": (1_674_512, 39_018),
    "mobilenetv1-0.25": (7_489_664, 210_850),
    "mobilenetv2-1.0": (300_774_272, 3_487_816),
    "mcunet-vww0": (5_958_400, 363_858),
    "mcunet-vww1": (11_578_816, 426_634),
    "mcunet-in2": (67_287_200, 721_648),
    "mcunet-in4": (125_874_400, 1_721_936),
    "mcunet-vww2": (55_771_280, 630_146),
    "mcunet-in0": (6_364_224, 743_008),
    "mcunet-in1": (12_790_096, 630_224),
    "mcunet-in3": (81_785_520, 729_720),
    "mbv2-w0.35": (23_499_152, 744_072),
    "proxyless-w0.3": (38_282_216, 748_480),
    "colabnas-k4c5": (656_697, 8_577),
    "colabnas-k8c5": (2_086_329, 33_437),
}


def small_arch(**changes: object) -> Arch:
    content = {
        "height": 8,
        "width": 8,
        "channels": 3,
        "classes": 2,
        "stem": {"out": 4, "kernel": 3, "stride": 2},
        "blocks": [{"kind": "mbconv", "out": 4, "kernel": 3, "expand": 2, "residual": True}],
    }
    return Arch.model_validate({**content, **changes})


def test_every_figure_of_a_small_network_by_hand() -> None:
    cost = estimate(lower(small_arch()))
    rows = {row.name: row for row in cost.layers}
    # Maps are 4 x 4 after the stem; the block widens 4 channels to 8.
    assert [row.macs for row in cost.layers] == [16 * 27 * 4, 16 * 4 * 8, 16 * 9 * 8, 16 * 8 * 4, 0, 0, 4 * 2]
    assert rows["stem"].params == 27 * 4 + 4
    assert rows["stem"].weights_bytes == 27 * 4 + 4 * 4
    assert rows["s0.b0.dw"].params == 9 * 8 + 8
    assert rows["fc"].weights_bytes == 8 + 4 * 2
    assert cost.macs == sum(row.macs for row in cost.layers)
    # Live: the input (192) and the stem's output (64); block input 64, wide 128, 128; block input, dw 128, out 64; ...
    assert [row.live_bytes for row in cost.layers] == [192 + 64, 64 + 128, 64 + 128 + 128, 64 + 128 + 64, 3 * 64, 64 + 16 + 48, 16 + 16]
    assert cost.peak_op == "s0.b0.dw"
    assert cost.peak_index == 2
    assert cost.head_bytes == 320
    # 7 operators have 8 activations and, in the file, 4 times weights and biases, the dense layer's too, and the axes of the mean.
    assert cost.work.tensor_count == 8 + 2 * 5 + 1
    # To start: room for 12 + 3 requests of scratch, a record of 19 tensors and 3 scratch buffers, the planner's lists for 8 + 3.
    before_ends = cost.tail_bytes - 2 * (32 + 12 + 4 + 4) - 2 * 16 + 8  # two tensors with their quantisation, two lists of one
    needed = (12 * 15 + 4 + 24 * 22 + 15) // 16 * 16 + (40 * 11 + 15) // 16 * 16
    assert needed + before_ends <= cost.setup_bytes <= needed + before_ends + 48
    assert cost.sram_bytes == cost.setup_bytes > cost.head_bytes + cost.tail_bytes


def test_first_layer_of_mcunet_tiny2_as_in_the_convention() -> None:
    stem = estimate(lower(load_arch("mcunet-tiny2"))).layers[0]
    assert (stem.macs, stem.params - 12, stem.input_shape, stem.output_shape) == (186_624, 324, (48, 48, 3), (24, 24, 12))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_macs_and_parameters(name: str) -> None:
    cost = estimate(lower(load_arch(name)))
    assert (cost.macs, cost.params) == PUBLISHED[name]


#: MCUNet's README: MACs in millions, parameters in millions, batch norm's scale and shift counted.
MCUNET_ZOO = {
    "mbv2-w0.35": (23.5, 0.75),
    "proxyless-w0.3": (38.3, 0.75),
    "mcunet-in0": (6.4, 0.75),
    "mcunet-in1": (12.8, 0.64),
    "mcunet-in2": (67.3, 0.73),
    "mcunet-in3": (81.8, 0.74),
    "mcunet-in4": (125.9, 1.73),
    "mcunet-vww0": (6.0, 0.37),
    "mcunet-vww1": (11.6, 0.43),
    "mcunet-vww2": (55.8, 0.64),
}


@pytest.mark.parametrize("name", MCUNET_ZOO)
def test_mcunets_zoo_to_the_digits_of_its_readme(name: str) -> None:
    cost = estimate(lower(load_arch(name)))
    channels = sum(piece.biases for piece in cost.work.pieces if piece.kind in {"conv", "dw"})
    assert (round(cost.macs / 1e6, 1), round((cost.params + channels) / 1e6, 2)) == MCUNET_ZOO[name]


def test_parameters_of_mobilenetv2_with_batch_norm_unfolded() -> None:
    # PyTorch's 3,504,872: each of 17,056 channels has a scale and a shift where we have one bias.
    cost = estimate(lower(load_arch("mobilenetv2-1.0")))
    channels = sum(piece.biases for piece in cost.work.pieces if piece.kind in {"conv", "dw"})
    assert cost.params + channels == 3_504_872


def test_mcunet_tiny2_published_flash_is_weights_and_biases() -> None:
    # The entry's "Flash 41.97 KiB": 37,700 weights and 1,318 biases of 4 bytes.
    assert estimate(lower(load_arch("mcunet-tiny2"))).weights_bytes == 37_700 + 4 * 1_318 == round(41.965 * 1024)


@pytest.mark.parametrize(("name", "sram", "model"), [("mcunet-vww0", 60_800, 399_656), ("mcunet-vww1", 93_992, 469_432)])
def test_tinyengine_equals_figures_of_its_generated_code(name: str, sram: int, model: int) -> None:
    # PEAK_MEM and MODEL_SIZE of code that TinyEngine generated for these networks, as reported by a public port.
    cost = estimate(lower(load_arch(name)), "tinyengine")
    assert (cost.sram_bytes, cost.flash_bytes) == (sram, model)


#: Peak SRAM in KiB of TinyEngine's README. It gives these for networks that run; MCUNet's own README, of an older TinyEngine, gives more.
TINYENGINE_KIB = {
    "mcunet-vww0": 59,
    "mcunet-vww1": 92,
    "mcunet-vww2": 174,
    "mcunet-in0": 49,
    "mcunet-in1": 96,
    "mcunet-in2": 215,
    "mcunet-in3": 260,
    "mcunet-in4": 416,
    "proxyless-w0.3": 259,
}


@pytest.mark.parametrize(("name", "kb"), TINYENGINE_KIB.items())
def test_tinyengine_equals_its_readme(name: str, kb: int) -> None:
    assert round(estimate(lower(load_arch(name)), "tinyengine").sram_bytes / 1024) == kb


def test_tinyengine_mobilenet_of_its_readme() -> None:
    arch = load_arch("mobilenetv2-0.35").model_copy(update={"height": 144, "width": 144, "classes": 1000})
    assert round(estimate(lower(arch), "tinyengine").sram_bytes / 1024) == 295


def test_runtimes_state_their_evidence() -> None:
    for name, runtime in RUNTIMES.items():
        assert runtime.name == name
        assert set(runtime.evidence) == {"sram", "flash"} | ({"code"} if isinstance(runtime.code, int) else set()) | (
            {"stack"} if runtime.frame else set()
        )
        assert all(kind in {"exact", "fitted", "bound"} and words for kind, words in runtime.evidence.values())


def test_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown runtime 'tvm'[\s\S]*tflm-cmsis-nn"):
        estimate(lower(small_arch()), "tvm")


def test_json_has_the_promised_keys() -> None:
    document = json.loads(json.dumps(estimate(lower(small_arch())).to_json()))
    assert {"runtime", "macs", "params", "weights_bytes", "flash_bytes", "sram_bytes", "sram", "latency_ms", "peak", "layers"} <= set(
        document
    )
    parts = document["sram"]
    assert set(parts) == {"head_bytes", "tail_bytes", "setup_bytes", "host_bytes", "version", "by_version"}
    assert document["sram_bytes"] == aligned(max(parts["head_bytes"] + parts["tail_bytes"], parts["setup_bytes"]))
    assert document["sram_bytes"] == parts["by_version"][parts["version"]] == max(parts["by_version"].values())
    assert parts["host_bytes"] > parts["head_bytes"] + parts["tail_bytes"]
    assert (document["runs"], document["reasons"], document["notes"], document["uncounted"]) == (True, [], [], [])
    assert document["peak"] == {"op": "s0.b0.dw", "index": 2}
    assert len(document["layers"]) == 7


def test_importing_the_costs_loads_nothing_heavy() -> None:
    heavy = "('torch', 'optuna', 'pandas', 'numpy', 'tensorflow')"
    code = f"import sys, tinynas.cost, tinynas.budget; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert result.stdout.strip() == "[]"


def test_32_bit_tail_is_close_to_and_not_below_the_published_fit() -> None:
    # Fit of 27 networks on an emulated Cortex-M4, worst error 9 B: 502 + 160 conv + 112 add + 8 channels (one MEAN).
    for name in PUBLISHED:
        arch = load_arch(name)
        if any(isinstance(block, Pool) for block in arch.blocks):
            continue
        work = from_graph(lower(arch))
        kinds = [piece.kind for piece in work.pieces]
        convs = kinds.count("conv") + kinds.count("dw")
        channels = sum(piece.out_channels for piece in work.pieces if piece.kind in {"conv", "dw"})
        fit = 502 + 160 * convs + 112 * kinds.count("add") + 8 * channels
        assert -9 <= tail_bytes(work) - fit <= 64, name


blocks = st.one_of(
    st.builds(
        MBConv,
        out=st.integers(1, 24),
        kernel=st.sampled_from([1, 3, 5, 7]),
        stride=st.sampled_from([1, 2]),
        expand=st.sampled_from([1, 2, 3.5, 6]),
    ),
    st.builds(Separable, out=st.integers(1, 24), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2])),
    st.builds(ConvLayer, out=st.integers(1, 24), kernel=st.sampled_from([1, 3, 5]), stride=st.sampled_from([1, 2])),
)


@st.composite
def archs(draw: st.DrawFn) -> Arch:
    chosen = []
    carried = draw(st.integers(1, 16))
    stem = ConvLayer(out=carried, kernel=draw(st.sampled_from([1, 3, 5])), stride=draw(st.sampled_from([1, 2])))
    for block in draw(st.lists(blocks, max_size=6)):
        if isinstance(block, MBConv) and block.stride == 1 and draw(st.booleans()):
            block = block.model_copy(update={"out": carried, "residual": True})
        chosen.append(block)
        carried = block.out
    head = draw(st.none() | st.builds(ConvLayer, out=st.integers(1, 48), kernel=st.just(1)))
    return Arch(
        height=draw(st.integers(8, 40)),
        width=draw(st.integers(8, 40)),
        channels=draw(st.sampled_from([1, 3])),
        classes=draw(st.integers(1, 30)),
        stem=stem,
        blocks=tuple(chosen),
        head=head,
    )


def shrink(cost: Cost) -> tuple[int, int, int]:
    return cost.macs, cost.sram_bytes, cost.flash_bytes


@settings(max_examples=60, deadline=None)
@given(archs())
def test_totals_are_sums_of_rows_and_the_peak_is_their_maximum(arch: Arch) -> None:
    graph = lower(arch)
    for runtime in (name for name, known in RUNTIMES.items() if not known.stream):
        cost = estimate(graph, runtime)
        assert cost.macs == sum(row.macs for row in cost.layers)
        assert cost.params == sum(row.params for row in cost.layers)
        assert cost.weights_bytes == sum(row.weights_bytes for row in cost.layers)
        live = [row.live_bytes for row in cost.layers]
        assert live[cost.peak_index] == max(live) <= cost.head_bytes
        assert cost.layers[cost.peak_index].name == cost.peak_op
        assert cost.weights_bytes <= cost.flash_bytes or runtime == "stedgeai"
        used = max(cost.head_bytes + cost.tail_bytes, cost.setup_bytes)
        assert cost.sram_bytes == (aligned(used) if runtime.startswith("tflm") else used)
        assert (cost.setup_bytes > 0) == runtime.startswith("tflm")
        assert cost.sram_bytes == max([size for _, size in cost.by_version], default=used)
        assert [name for name, _ in cost.by_version] == [version.name for version in RUNTIMES[runtime].versions]


@settings(max_examples=40, deadline=None)
@given(archs(), st.integers(1, 8))
def test_a_larger_input_or_more_classes_never_cost_less(arch: Arch, more: int) -> None:
    before = estimate(lower(arch))
    larger = estimate(lower(arch.model_copy(update={"height": arch.height + more, "width": arch.width + more})))
    assert all(a >= b for a, b in zip(shrink(larger), shrink(before), strict=True))
    wider = estimate(lower(arch.with_classes(arch.classes + more)))
    assert wider.macs > before.macs
    assert wider.sram_bytes >= before.sram_bytes
