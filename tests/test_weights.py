"""Weights of others: files read as TensorFlow Lite reads them, layers that meet, channels that stay together, a teacher."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_cases import picture
from test_promote import NET, OTHER, RECIPE, Images, go, new_run

from tinynas.arch import Arch, ConvLayer, MBConv, Separable, load_arch
from tinynas.errors import ModelFileError, RunError, UserError
from tinynas.export.facts import real_outputs
from tinynas.export.pixels import read_pixels
from tinynas.export.sandbox import inspect, run_litert
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import lower
from tinynas.model import Network, normalise, save_weights
from tinynas.promote import PromoteEvent
from tinynas.quantize import fold, quantize
from tinynas.recipe import Recipe, Stop
from tinynas.train.losses import taught
from tinynas.weights import Known, begin, open_source, open_teacher
from tinynas.weights.describe import arch_of_file
from tinynas.weights.files import read_file
from tinynas.weights.layers import OURS
from tinynas.weights.nets import network_of
from tinynas.weights.source import layers_of_network
from tinynas.weights.states import layers_of

SIDE = 20
SMALL = Arch(
    height=SIDE,
    width=SIDE,
    channels=3,
    classes=3,
    stem=ConvLayer(out=8, stride=2),
    blocks=(
        MBConv(out=8, kernel=3, expand=2, residual=True),
        Separable(out=12, kernel=5, stride=2),
        MBConv(out=16, kernel=3, expand=1),
        MBConv(out=16, kernel=3, expand=3, residual=True, act="h_swish"),
    ),
    head=ConvLayer(out=20, kernel=1),
)
LABELS = ("ant", "bee", "cat")
IMAGES = np.stack([picture(i, SIDE, SIDE) for i in range(48)])


def grown(arch: Arch = SMALL, seed: int = 3) -> Network:
    """A network whose batch norm says something."""
    network = Network(lower(arch), seed=seed)
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.2, generator=rng)
            module.running_var.uniform_(0.05, 0.6, generator=rng)
            with torch.no_grad():
                module.weight.uniform_(0.4, 1.6, generator=rng)
                module.bias.normal_(0, 0.3, generator=rng)
        elif isinstance(module, torch.nn.Linear):
            with torch.no_grad():
                module.weight.normal_(0, 0.6, generator=rng)
    return network.eval()


def known(network: Network, labels: tuple[str, ...] = LABELS) -> Known:
    return Known("source", "a network", "f00d", layers_of_network(network), labels)


def logits(network: Network, images: np.ndarray = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return network.eval()(normalise(torch.from_numpy(images), network.graph.input)).numpy()


def began(arch: Arch, source: Known, labels: tuple[str, ...] = LABELS, images: np.ndarray = IMAGES, **recipe: Any) -> tuple[Network, Any]:
    graph = lower(arch)
    found = begin(graph, source, labels, images, Recipe(init="source", **recipe), seed=0)
    network = Network(graph)
    network.load_state_dict(dict(found.start.weights))
    return network.eval(), found


def write_file(folder: Path, network: Network) -> Path:
    qgraph = quantize(fold(network), IMAGES)
    path = folder / "source.tflite"
    path.write_bytes(serialize(qgraph, ModelMeta("0" * 10), None))
    return path


def test_a_tflite_in_a_network_computes_what_the_file_does_before_any_training(tmp_path: Path) -> None:
    network = grown()
    path = write_file(tmp_path, network)
    source = open_source(str(path))
    own = network_of(source)
    mean, std = source.pixels.mean[0], source.pixels.std[0]
    with torch.no_grad():
        dequantised = own((torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() - mean) / std).numpy()
    child, found = began(SMALL, source, ("x", "y", "z"))
    assert found.count("taken") == len(found.rows) == 13 and not found.unused
    assert np.abs(logits(child) - dequantised).max() < 1e-4 * np.abs(dequantised).max(), "batch norm is measured, its function kept"
    ran = inspect(path.read_bytes())
    integers = real_outputs(run_litert(ran, IMAGES, table=read_pixels(ran.facts).table), ran.facts)
    noise = np.abs(logits(network) - integers).std()
    assert np.abs(logits(child) - integers).mean() < 4 * noise and np.corrcoef(logits(child).ravel(), integers.ravel())[0, 1] > 0.98
    assert np.corrcoef(logits(Network(lower(SMALL), seed=0)).ravel(), integers.ravel())[0, 1] < 0.9, "one at random does not"
    # In training mode batch norm computes nearly the same, for its statistics are those of images.
    child.train()
    with torch.no_grad():
        training = child(normalise(torch.from_numpy(IMAGES), child.graph.input)).numpy()
    assert np.abs(training - dequantised).max() < 1e-3 * np.abs(dequantised).max()


def test_the_architecture_of_a_file_is_the_one_that_it_was_made_of(tmp_path: Path) -> None:
    assert arch_of_file(str(write_file(tmp_path, grown()))).id == SMALL.id


@pytest.mark.parametrize(
    ("file", "most"),
    [
        ("tinyengine__vww", 0.03),
        ("mlcommons-tiny__vww_96_int8", 0.03),
        ("st-modelzoo-v2__flowers_mobilenet_v2_0.35_128_tfs_int8", 0.03),
        ("tflite-micro__person_detect", None),
        ("mlcommons-tiny__pretrainedResnet_quant", 0.15),
        ("wake-vision-zoo__wv_quality_mcunet-5fps_vww", 0.05),
        ("wake-vision-zoo__wv_quality_k_4_c_5", 0.05),
    ],
)
def test_files_of_others_are_computed_in_float_as_litert_does_in_integers(test_data: Path, file: str, most: float | None) -> None:
    path = test_data / "models" / f"{file}.tflite"
    source = read_file(path, file)
    network = network_of(source)
    if most is None:
        assert len(source.layers) == 28, "LiteRT refuses it"
        return
    ran = inspect(path.read_bytes())
    height, width, channels = ran.facts.input_shape
    images = np.stack([picture(i, height, width, channels) for i in range(6)])
    integers = real_outputs(run_litert(ran, images, table=read_pixels(ran.facts).table), ran.facts)
    mean, std = (np.asarray(part, np.float32) for part in (source.pixels.mean, source.pixels.std))
    with torch.no_grad():
        floats = network(torch.from_numpy((images - mean) / std).float().permute(0, 3, 1, 2))
    floats = floats.softmax(1) if "SOFTMAX" in ran.facts.operators else floats
    assert np.abs(floats.numpy() - integers).mean() <= most * max(1.0, np.ptp(integers))


@pytest.mark.parametrize(("file", "net"), [("tinyengine__vww", "mcunet-vww1"), ("mlcommons-tiny__vww_96_int8", "mobilenetv1-0.25")])
def test_published_files_are_taken_whole_and_their_architecture_is_the_zoos(test_data: Path, file: str, net: str) -> None:
    path = str(test_data / "models" / f"{file}.tflite")
    arch = load_arch(net)
    assert arch_of_file(path).id == arch.id
    images = np.stack([picture(i, arch.height, arch.width) for i in range(8)])
    _, found = began(arch, open_source(path), ("no", "yes"), images)
    assert {row.fate for row in found.rows} == {"taken"}
    padded = [row for row in found.rows if "padded" in row.note]
    assert bool(padded) == (net == "mcunet-vww1"), "PyTorch pads stride 2 on other sides, and it is said"
    gray = [row for row in found.rows if "gray" in row.note]
    assert [row.layer for row in gray] == (["stem"] if net == "mobilenetv1-0.25" else []), "0..1: black is 0 there"


def test_a_network_of_ours_is_taken_bit_for_bit_classes_in_their_order() -> None:
    network = grown()
    child, found = began(SMALL, known(network))
    assert all(torch.equal(value, child.state_dict()[key]) for key, value in network.state_dict().items())
    assert found.start.old == {row.layer.replace(".", "_") for row in found.rows}
    turned, _ = began(SMALL, known(network), ("cat", "ant", "bee"))
    assert np.array_equal(logits(turned), logits(network)[:, [2, 0, 1]])
    other, found = began(SMALL, known(network), ("ant", "bee", "dog"))
    assert found.rows[-1].fate == "new" and "ant, bee, cat" in found.rows[-1].note
    assert not np.array_equal(logits(other), logits(network))


def test_wider_and_longer_networks_compute_what_the_narrow_one_did() -> None:
    network = grown()
    document = SMALL.model_dump()
    document["stem"]["out"], document["blocks"][0]["out"] = 14, 14  # a residual: both sides grow
    document["blocks"][1]["kernel"], document["head"]["out"] = 7, 30
    child, found = began(Arch.model_validate(document), known(network))
    fates = {row.layer: row.fate for row in found.rows}
    assert fates["stem"] == fates["head"] == "cut" and "new" not in fates.values()
    rows = {row.layer: row.note for row in found.rows}
    assert rows["stem"] == "channels: 8 of the source and 6 new" and rows["s1.b0.dw"].endswith("kernel 7x7 around 5x5")
    # Columns of new channels are 0, so what the old ones give is the same; measuring moved the statistics, and only those.
    stem = child.get_submodule("stem").conv.weight  # type: ignore[union-attr]
    assert torch.equal(stem[:8], network.get_submodule("stem").conv.weight)  # type: ignore[union-attr]
    expand = child.get_submodule("s0_b0_expand").conv.weight  # type: ignore[union-attr]
    assert not expand[:16, 8:].any() and expand[:16, :8].any()


def test_channels_that_are_dead_go_first_and_the_rest_stays_together() -> None:
    network = grown()
    # Six of the stem's channels that the residual carries on are made worthless everywhere; a narrower network must lose just those.
    keep = [1, 6]
    for name in ("stem", "s0_b0_project"):
        module = network.get_submodule(name)
        with torch.no_grad():
            for row in set(range(8)) - set(keep):
                module.conv.weight[row] = 0  # type: ignore[union-attr, index, operator]
                module.bn.bias[row] = module.bn.running_mean[row] = 0  # type: ignore[union-attr, index, operator]
    document = SMALL.model_dump()
    document["stem"]["out"], document["blocks"][0]["out"] = 2, 2
    document["blocks"][0]["mid"] = 16  # as many in the middle as before
    child, found = began(Arch.model_validate(document), known(network))
    weights = child.get_submodule("stem").conv.weight  # type: ignore[union-attr]
    assert torch.equal(weights, network.get_submodule("stem").conv.weight[keep])  # type: ignore[union-attr, index]
    middle = child.get_submodule("s0_b0_expand").conv.weight  # type: ignore[union-attr]
    assert torch.equal(middle, network.get_submodule("s0_b0_expand").conv.weight[:, keep])  # type: ignore[union-attr, index]
    assert found.rows[0].note == "channels: the 2 strongest of 8"


def test_gray_and_colour_meet_exactly() -> None:
    network = grown()
    gray = Arch.model_validate({**SMALL.model_dump(), "channels": 1})
    images = IMAGES[..., :1]
    child, _ = began(gray, known(network), images=images)
    first, own = (net.get_submodule("stem").conv for net in (child, network))  # type: ignore[union-attr]
    assert torch.allclose(first.weight, own.weight.sum(1, keepdim=True))  # type: ignore[union-attr, operator]
    back, _ = began(SMALL, known(child))
    weight = back.get_submodule("stem").conv.weight  # type: ignore[union-attr]
    assert torch.allclose(weight.sum(1, keepdim=True), first.weight, atol=1e-6)  # type: ignore[union-attr, operator]


def test_other_pixels_are_worked_into_the_first_layer() -> None:
    network, std = grown(), (58.4, 57.1, 57.4)
    source = Known("s", "a state", "0", layers_of_network(network), LABELS)
    whole = open_pixels(source, (123.7, 116.3, 103.5), std)
    child, found = began(SMALL, whole)
    inside = np.asarray(IMAGES, np.float32)
    with torch.no_grad():
        x = torch.from_numpy((inside - np.float32([123.7, 116.3, 103.5])) / np.float32(std)).permute(0, 3, 1, 2)
        theirs = network.get_submodule("stem")(x)
        ours = child.get_submodule("stem")(normalise(torch.from_numpy(IMAGES), child.graph.input))
    # Apart from the border, where padding is black there and gray here.
    assert torch.allclose(ours[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], atol=2e-4)
    assert "reads (pixel-[" in found.rows[0].note and "padding at the border" in found.rows[0].note


def open_pixels(source: Known, mean: tuple[float, ...], std: tuple[float, ...]) -> Known:
    from dataclasses import replace

    from tinynas.export.pixels import Pixels

    return replace(source, pixels=Pixels("own", mean, std))


class Block(torch.nn.Module):
    """As MCUNet's PyTorch modules are called."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(8))
        self.blocks = torch.nn.ModuleList([torch.nn.ModuleDict({"depth_conv": cb(8, 8, 3, 8), "point_linear": cb(8, 8, 1)})])
        self.blocks.append(
            torch.nn.ModuleDict({"inverted_bottleneck": cb(8, 16, 1), "depth_conv": cb(16, 16, 5, 16), "point_linear": cb(16, 12, 1)})
        )
        self.classifier = torch.nn.Linear(12, 3)


def cb(inputs: int, outputs: int, kernel: int, groups: int = 1) -> torch.nn.ModuleDict:
    conv = torch.nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=False)
    return torch.nn.ModuleDict({"conv": conv, "bn": torch.nn.BatchNorm2d(outputs)})


@pytest.mark.parametrize("form", ["state", "wrapped", "safetensors"])
def test_states_of_others_are_read_in_their_order_with_their_batch_norm(tmp_path: Path, form: str) -> None:
    import safetensors.torch

    module = Block()
    with torch.no_grad():
        for norm in [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
            norm.weight.uniform_(0.5, 2)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    state = module.state_dict()
    if form == "safetensors":
        safetensors.torch.save_file({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "wrapped" else state, path)
    found = open_source(str(path))
    assert [layer.kind for layer in found.layers] == ["conv", "dw", "conv", "conv", "dw", "conv", "fc"]
    assert [layer.rows for layer in found.layers] == [8, 8, 8, 16, 16, 12, 3]
    norms = [layer.norm for layer in found.layers]
    assert all(norms[:-1]) and norms[-1] is None
    assert np.array_equal(norms[3].gamma, state["blocks.1.inverted_bottleneck.bn.weight"].numpy())  # type: ignore[union-attr]
    arch = Arch(
        height=16, width=16, channels=3, classes=3, stem=ConvLayer(out=8, stride=2),
        blocks=(MBConv(out=8), MBConv(out=12, expand=2, kernel=5, stride=2)),
    )  # fmt: skip
    _, begun = began(arch, found, images=IMAGES[:, :16, :16])
    assert {row.fate for row in begun.rows} == {"taken"} and "assumed" in found.pixels_from


class Poison:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/tinynas_poisoned"),))


def test_what_is_no_source_of_weights_is_one_clear_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    torch.save({"w": Poison()}, bad)
    with pytest.raises(ModelFileError, match=r"run code or holds more than tensors.*it was not run"):
        open_source(str(bad))
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps(Poison()))
    with pytest.raises(ModelFileError, match=r"bare\.pkl"):
        open_source(str(bare))
    assert not Path("/tmp/tinynas_poisoned").exists()
    for name, content, said in (
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{}", "cannot be read"),
        ("x.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 30, "x.tflite"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 9, "HDF5"),
        ("notes.txt", b"hello", "no file of weights"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=said):
            open_source(str(tmp_path / name))
    with pytest.raises(ModelFileError, match="is not there"):
        open_source(str(tmp_path / "none.tflite"))
    with pytest.raises(UserError, match="the zoo has no network"):
        open_source("zoo:none")
    with pytest.raises(ModelFileError, match="ships no weights"):
        open_source("zoo:mcunet-vww1")
    with pytest.raises(RunError, match="no run there"):
        open_source("nowhere:abc")


def test_a_source_of_which_nothing_fits_is_refused() -> None:
    source = Known("s", "weights", "0", layers_of({"a.weight": torch.ones(4, 7)}), ())
    with pytest.raises(UserError, match="none of its 1 layer fits"):
        began(SMALL, source)


def test_parts_to_freeze_are_named_and_must_be_there() -> None:
    network = grown()
    _, found = began(SMALL, known(network), freeze=1)
    assert found.start.frozen == {"stem", "s0_b0_expand", "s0_b0_dw", "s0_b0_project"}
    _, found = began(SMALL, known(network), freeze=("stem", "s1"))
    assert found.start.frozen == {"stem", "s1_b0_dw", "s1_b0_pw"}
    for freeze, said in (
        (9, "9 stages"),
        (("s7",), "no part 's7'"),
        (("stem", "s0", "s1", "s2", "head", "fc"), "nothing would be left"),
    ):
        with pytest.raises(UserError, match=said):
            began(SMALL, known(network), freeze=freeze)
    with pytest.raises(UserError, match="fc would stay as it was drawn"):
        began(SMALL, known(network), ("x", "y", "z"), freeze=("fc",))
    with pytest.raises(ValueError, match="there is no init"):
        Recipe(freeze=1)


# in a training ------------------------------------------------------------------------------------------


def source_run(path: Path) -> tuple[Any, str]:
    run = new_run(path)
    go(run)
    return run, f"{run.path}:{NET.id}"


def test_frozen_parts_keep_every_bit_and_old_layers_move_slowly(tmp_path: Path) -> None:
    _, text = source_run(tmp_path / "source")
    run = new_run(tmp_path / "run")
    changes = {"init": text, "freeze": ("stem",), "old_lr": 0.0, "weight_decay": 0.0}
    events, _ = go(run, OTHER.id, recipe=Recipe(**{**RECIPE.model_dump(), **changes}))
    begun = events[0].begun
    assert begun is not None and [row.fate for row in begun.rows] == ["taken"] * 4 + ["new"] * 2
    from safetensors.torch import load_file

    before, after = (load_file(r.weights_file(i)) for r, i in ((new_run_of(text), NET.id), (run, OTHER.id)))
    for key, value in before.items():
        if key.startswith("stem"):
            assert torch.equal(value, after[key]), "frozen: statistics too"
    moved = [
        key for key, value in after.items() if key in before and not key.startswith(("stem", "fc")) and not torch.equal(value, before[key])
    ]
    assert moved and all("running" in key for key in moved), "at a rate of 0 only statistics move"
    assert events[-1].promoted is not None
    record = events[-1].promoted.to_json()
    assert record["init"]["taken"] == 4 and record["recipe"]["init_sha256"] == begun.start.sha256


def new_run_of(text: str) -> Any:
    from tinynas.runs import Run

    return Run(Path(text.rpartition(":")[0]))


def stop_after(epoch: int) -> Any:
    def stop(event: PromoteEvent) -> None:
        if event.kind == "epoch" and event.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_a_taught_training_goes_on_with_the_same_bits_and_refuses_another_teacher(tmp_path: Path) -> None:
    from tinynas.promote import promote

    source, text = source_run(tmp_path / "source")
    recipe = Recipe(**{**RECIPE.model_dump(), "teacher": text, "init": text, "old_lr": 0.5, "epochs": 3})
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    go(whole, OTHER.id, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        promote(killed, [OTHER.id], data=Images(), recipe=recipe, on_event=stop_after(1))  # type: ignore[arg-type]
    weights = source.weights_file(NET.id)
    kept = weights.read_bytes()
    save_weights(Network(lower(NET), seed=9), weights, {})
    with pytest.raises(RunError, match="of another content"):
        go(killed, OTHER.id, recipe=recipe)
    weights.write_bytes(kept)
    events, _ = go(killed, OTHER.id, recipe=recipe)
    assert [e.kind for e in events] == ["resumed", "epoch", "epoch", "done"]
    assert killed.weights_file(OTHER.id).read_bytes() == whole.weights_file(OTHER.id).read_bytes()
    assert [e.kind for e in go(killed, OTHER.id, recipe=recipe)[0]] == ["known"]
    promoted = whole.promoted(OTHER.id)
    assert promoted is not None and {"teacher", "teacher_sha256", "init_sha256"} <= promoted.recipe.keys()
    plain = new_run(tmp_path / "plain")
    go(plain, OTHER.id, recipe=recipe.model_copy(update={"teacher": None}))
    assert plain.weights_file(OTHER.id).read_bytes() != whole.weights_file(OTHER.id).read_bytes(), "the teacher matters"


def test_the_loss_of_a_teacher_by_hand() -> None:
    logits_, said = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    p, q = (torch.softmax(x / 2, 1)[0] for x in (logits_, said))
    by_hand = 0.7 * 5.0 + 0.3 * 4 * float((q * (q / p).log()).sum())
    assert float(taught(torch.tensor(5.0), logits_, said, weight=0.3, temperature=2.0)) == pytest.approx(by_hand, rel=1e-5)
    assert float(taught(torch.tensor(5.0), said, said, weight=1.0, temperature=3.0)) == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_says_what_its_network_does_in_the_learners_order_at_any_size(tmp_path: Path) -> None:
    network = grown()
    path = write_file(tmp_path, network)
    teacher = open_teacher(str(path), LABELS, lower(SMALL).input)
    said = teacher.logits(normalise(torch.from_numpy(IMAGES), lower(SMALL).input)).numpy()
    assert np.corrcoef(said.ravel(), logits(network).ravel())[0, 1] > 0.98
    assert any("does not name its 3 classes" in note for note in teacher.notes)
    wide = lower(Arch.model_validate({**SMALL.model_dump(), "height": 40, "width": 40}))
    large = IMAGES.repeat(2, 1).repeat(2, 2)
    again = teacher.logits(normalise(torch.from_numpy(large), wide.input)).numpy()
    assert np.corrcoef(again.ravel(), said.ravel())[0, 1] > 0.95
    with pytest.raises(UserError, match="3 classes without names; the data have a, b"):
        open_teacher(str(path), ("a", "b"), lower(SMALL).input)
    with pytest.raises(UserError, match="a teacher is a whole network"):
        open_teacher(__file__, LABELS, lower(SMALL).input)


def test_a_teacher_of_a_run_is_asked_by_class_names(tmp_path: Path) -> None:
    from tinynas.weights.teacher import _order

    assert _order("t", ("bee", "ant"), 2, ("ant", "bee"), []) == [1, 0]
    with pytest.raises(UserError, match=r"bee, ant; the data have ant, dog"):
        _order("t", ("bee", "ant"), 2, ("ant", "dog"), [])


def test_rules_to_stop() -> None:
    rule = Stop(patience=2)
    assert [rule.reached(a) for a in ([], [0.5], [0.5, 0.5], [0.5, 0.4, 0.5], [0.5, 0.4, 0.6, 0.6], [0.9, 0.8, 0.7])] == [
        *[False, False, False, True, False, True]
    ]
    assert Stop(accuracy=0.8).reached([0.2, 0.8]) and not Stop(accuracy=0.8).reached([0.9, 0.7])
    with pytest.raises(ValueError, match="says nothing"):
        Stop()


def test_ours_are_read_with_their_own_pixels() -> None:
    assert OURS.real()[0, 0] == -1.0 and OURS.real()[255, 0] == 127 / 128
