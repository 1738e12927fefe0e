"""Learning on the board: adapt.h of the firmware folder, bit for bit what its reference computes, and that what PyTorch simulates."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from adapt_cases import write_images
from test_compiled_firmware import SANITIZED, STRICT, needs_gcc, needs_tools
from test_compiled_firmware import SOURCES as C_SOURCES
from test_firmware import SOURCES as CC_SOURCES
from test_firmware import needs_wheel, on_host, on_target, run
from test_updates import close

from tinynas.adapt import Learner, Learning, UpdateBudget, learn, scheme_named
from tinynas.adapt.learner import with_classes
from tinynas.adapt.tasks import Learnable, Task
from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.cli import run as tinynas
from tinynas.config import ConfigError, build
from tinynas.cost import estimate, plan_offline
from tinynas.cost.backward import estimate_update
from tinynas.cost.flash import file_bytes
from tinynas.cost.updates import Update, biases_of, full_update, last_biases, last_layers, outputs_part, weighted_of
from tinynas.data import Split
from tinynas.errors import BudgetError, ModelFileError, UserError
from tinynas.export.emulated import network_self_test, self_test
from tinynas.export.sandbox import inspect, measure_arena
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Builder, Graph, lower
from tinynas.learnings.board import BoardReference, exp_of, fnv, softmax_of
from tinynas.learnings.folder import BoardFolder, board_learner, board_learning, build_folder, prepared, write_folder
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.quantize.floats import pixels
from tinynas.quantize.grid import random_quantized
from tinynas.target.cores import CORES

if TYPE_CHECKING:
    from thin_tflm import Emulated

HEIGHT, WIDTH = 12, 16
ARCH = Arch(
    height=HEIGHT,
    width=WIDTH,
    classes=3,
    stem=ConvLayer(out=8, stride=2),
    blocks=(MBConv(out=8, expand=2, stride=2), MBConv(out=8, expand=2, residual=True)),
)
#: From the last block's first convolution on: a depthwise one, an addition with what the runtime keeps, a mean.
DEEP = 4


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of(ARCH)


def task_of(arch: Arch) -> Task:
    """A network with random weights, of three classes; two more are to be learned, and six old images are learned again."""
    floats = fold(Network(lower(arch), seed=3).eval())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (22, *floats.graph.input.shape), dtype=np.uint8)
    labels = np.array([3, 4] * 8 + [0, 1, 2] * 2)
    images = (images // 2 + (labels * 30).astype(np.uint8)[:, None, None, None]).astype(np.uint8)
    split = Split(images, labels, tuple(map(str, range(22))))
    net = Learnable("some/net.tflite", floats, ("a", "b", "c"), "0" * 64)
    new = split.take(range(16))
    return Task(net, with_classes(floats, 3, 2, head="extend", seed=0), ("a", "b", "c", "d", "e"), 3, split, new, new, None, 6, "f")


def budget_of(runtime: str = "tflm-cmsis-nn", **learning: Any) -> UpdateBudget:
    given = {"mode": "board", "lr": 0.05, "replay": 2, **learning}
    return build({"extra": "64 KiB", "runtime": runtime, "core": "cortex-m4", "learning": given}, UpdateBudget, source="a test")


def made(task: Task, update: Update, runtime: str = "tflm-cmsis-nn", **learning: Any) -> BoardFolder:
    budget = budget_of(runtime, **learning)
    return build_folder(task, prepared(task, board_learner(task, budget), budget, update), budget, "classifier")


def deep(graph: Graph) -> Update:
    """Weights of three layers, biases of a fourth."""
    ops = weighted_of(graph)
    return Update({**last_layers(graph, DEEP - 1).parts, ops[-DEEP].name: biases_of(ops[-DEEP])})


def classifier(task: Task) -> Update:
    return last_layers(task.floats.graph, 1)


# What it computes


def test_the_exponential_is_nearly_that_of_float32() -> None:
    x = np.float32(-np.geomspace(1e-7, 79.9, 4001))
    assert np.abs(exp_of(x) / np.exp(x.astype(np.float64)) - 1).max() < 2.5e-7
    assert exp_of(np.float32([0, -0.0, -80.1, -1e30])).tolist() == [1, 1, 0, 0]
    logits = np.float32([3, -2, 0.5])
    shown = np.exp(logits.astype(np.float64))
    assert softmax_of(logits) == pytest.approx(shown / shown.sum(), rel=1e-6)


def test_the_sum_of_bytes_is_fnv_1a() -> None:
    assert (fnv(b""), fnv(b"a"), fnv(b"foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)  # of its authors' test vectors


@pytest.mark.parametrize(("which", "batch", "momentum"), [("classifier", 1, 0.0), ("biases", 1, 0.5), ("deep", 3, 0.5)])
def test_pytorch_and_the_reference_learn_the_same(task: Task, which: str, batch: int, momentum: float) -> None:
    """Features are equal bit for bit; of the parameters the order of sums alone differs: 2e-6 after six inputs, of weights up to 1."""
    graph = task.floats.graph
    update = {"classifier": classifier(task), "biases": last_biases(graph, DEEP), "deep": deep(graph)}[which]
    budget = budget_of(batch=batch, momentum=momentum)
    learner = board_learner(task, budget)
    learning = prepared(task, learner, budget, update)
    reference = BoardReference(learning)
    begun = reference.parameters()
    images, labels = np.array(task.train.inputs[:7]), np.array(task.train.labels[:7])
    kept = learner.kept(images)
    assert kept.shape == (7, learning.apart.kept_bytes)
    for start in range(0, 7, batch):
        learner.step(images[start : start + batch], labels[start : start + batch], update, 0.05)
        for row in range(start, min(7, start + batch)):
            reference.step(kept[row], int(labels[row]), 0.05)
        reference.flush(0.05)
    ops = [op for op in learning.ops if learning.learned(op)]
    for op in ops:
        for name, mine in ((op.name, reference.weights.get(op.name)), (op.name, reference.biases.get(op.name))):
            if mine is not None:
                theirs = (learner.floats().weights if mine is reference.weights.get(op.name) else learner.floats().biases)[name]
                assert np.abs(mine - theirs).max() < 2e-6, name
    assert np.abs(reference.parameters() - begun).max() > 1e-3
    logits = np.stack([reference.logits(one) for one in kept])
    assert np.abs(logits - learner.logits(images)).max() < 1e-5


def test_what_is_kept_are_the_integers_of_the_whole_network(task: Task) -> None:
    from tinynas.quantize import FakeQuantNetwork

    budget = budget_of()
    learner = board_learner(task, budget)
    assert learner.qgraph is not None
    learning = prepared(task, learner, budget, deep(task.floats.graph))
    images = np.array(task.train.inputs[:3])
    graph = replace(learner.graph, outputs=(learner.graph.logits, *learning.apart.kept))
    network = FakeQuantNetwork(replace(learner.qgraph, graph=graph))
    x = pixels(images, learner.graph.input)
    integers = network.integers((x / learner.qgraph.tensors[0].scale).round())
    wanted = [integers[t].permute(0, 2, 3, 1).reshape(3, -1) + learner.qgraph.tensors[t].zero_point for t in learning.apart.kept]
    assert len(wanted) == 1  # the block's input, which its addition reads too
    assert np.array_equal(learner.kept(images), np.concatenate([one.numpy() for one in wanted], axis=1))


def test_the_simulation_runs_as_any_other(task: Task) -> None:
    learned = learn(task, scheme_named("classifier"), budget_of(epochs=8))
    assert learned.epochs[-1].loss < learned.epochs[0].loss and learned.fits
    assert learned.cost.apart is not None and learned.cost.ram_bytes == learned.cost.apart.ram_bytes
    front = [op.name for op in weighted_of(task.floats.graph)[:-1]]
    begun = Learner(task.floats, budget_of().learning, calibration=np.array(task.train.inputs))
    assert all(np.array_equal(learned.learner.floats().weights[name], begun.floats().weights[name]) for name in front)


# What it takes


@pytest.mark.parametrize("runtime", ["tflm@2026-10", "tflm-cmsis-nn@2026-10", "compiled", "compiled-rows"])
def test_the_memory_of_a_classifier_by_hand(task: Task, runtime: str) -> None:
    """8 features, 5 classes: 45 parameters, 5 real outputs and their gradient, each on full 16 bytes."""
    graph = task.floats.graph
    cost = estimate_update(graph, classifier(task), runtime=runtime, core="cortex-m4", arithmetic="board")
    assert cost.apart is not None
    assert cost.apart.own_bytes == 192 + 32 + 32
    assert cost.apart.kept_bytes == 8
    assert cost.ram_bytes == cost.apart.arena.sram_bytes + 256
    alone = estimate(graph, runtime, core="cortex-m4")
    # One more output costs TFLM a tensor of 32 bytes, its grid of 20, and a pointer, on full 16 bytes.
    assert cost.apart.arena.tail_bytes - alone.tail_bytes in ((0,) if runtime.startswith("compiled") else (52, 68))
    assert cost.apart.arena.head_bytes == alone.head_bytes
    heavy = estimate_update(graph, classifier(task), runtime=runtime, core="cortex-m4", arithmetic="board", batch=4, momentum=True)
    assert heavy.apart is not None and heavy.apart.own_bytes == 3 * 192 + 32 + 32
    assert max(heavy.live) <= heavy.head_bytes


def test_a_file_with_what_is_kept_is_as_large_as_promised_and_takes_the_arena_that_is_promised(task: Task) -> None:
    graph = task.floats.graph
    cost = estimate_update(graph, deep(graph), arithmetic="board")
    assert cost.apart is not None
    kept = cost.apart.graph
    model = serialize(random_quantized(kept), ModelMeta("0" * 10, task.labels), plan_offline(kept))
    assert len(model) == file_bytes(kept, labels=task.labels)
    with pytest.raises(ModelFileError, match="outputs"):
        inspect(model)
    assert sum(measure_arena(inspect(model, kept=True))) == estimate(kept, "tflm").host_arena_bytes


def test_what_no_board_learns_is_refused_by_name(task: Task) -> None:
    graph = task.floats.graph
    last = weighted_of(graph)[-1]
    part = Update({last.name: outputs_part(last, [0, 2])})
    with pytest.raises(UserError, match=r"fc some channels are updated and others are not.*\n.*the classifier, whole layers"):
        estimate_update(graph, part, arithmetic="board")
    with pytest.raises(UserError, match="compiled keeps no activation but the classifier's input"):
        estimate_update(graph, last_layers(graph, 2), runtime="compiled", arithmetic="board")
    maker = Builder((4, 4, 3))
    other = close(maker, maker.pointwise("b", maker.conv("a", 0, 8, (3, 3), (1, 1), "relu6"), 8, "h_swish"))
    with pytest.raises(UserError, match="hard_swish, which no gradient passes there"):
        estimate_update(other, last_layers(other, 2), arithmetic="board")
    with pytest.raises(UserError, match="stem reads the image itself"):
        estimate_update(graph, full_update(graph), arithmetic="board")
    # A scheme takes as many layers as can be learned.
    chosen = board_learning(task, board_learner(task, budget_of("compiled")), budget_of("compiled"), scheme_named("last"), 0)
    assert chosen.update == classifier(task)
    budget = budget_of()
    with pytest.raises(BudgetError, match=r"no firmware learns by the scheme random\n.*classifier, last, bias"):
        board_learning(task, board_learner(task, budget), budget, scheme_named("random"), 0)
    with pytest.raises(UserError, match="mode: board"):
        board_learner(task, budget_of(mode="float"))
    with pytest.raises(ConfigError, match="at most 64"):
        budget_of(batch=65)
    assert budget_of(batch=64).learning.batch == 64
    with pytest.raises(ConfigError, match="mode board takes arithmetic board"):
        budget_of(arithmetic="int8")
    with pytest.raises(ConfigError, match="for compiled ones"):
        budget_of("compiled", mode="float")
    with pytest.raises(UserError, match="no room"):
        estimate_update(graph, Update(), runtime="compiled", arithmetic="board")
    assert Learning(mode="board").arithmetic == "board"


# The code


def on_this_machine(folder: Path, main: str = "self_test_main.c") -> tuple[int, str]:
    sources = [*C_SOURCES, "adapt.c", "adapt_data.c"]
    command = ["gcc", *STRICT, *SANITIZED, *sources, main, "-o", "program", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    return run(folder / "program")


#: Every call, in an order in which each matters; numbers as bits.
DRIVER = r"""
#include <stdio.h>
#include <string.h>
#include "adapt.h"
#include "adapt_data.h"
#include "classifier.h"
#include "self_test_data.h"
static uint8_t blob[NET_MODEL_ADAPT_BLOB_BYTES], other[NET_MODEL_ADAPT_BLOB_BYTES];
static int8_t kept[NET_MODEL_ADAPT_KEPT_BYTES];
static net_model_frame_t frame(int i) {
  const net_model_frame_t made = {net_model_self_test_pixels[i], NET_MODEL_WIDTH, NET_MODEL_HEIGHT, NET_MODEL_RGB888, 0};
  return made;
}
static void show(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  printf("%08lx ", (unsigned long)bits);
}
int main(void) {
  const net_model_frame_t one = frame(0), two = frame(1), none = {NULL, 4, 4, NET_MODEL_RGB888, 0};
  printf("%d%d%d%d ", net_model_adapt_step(&one, 1, 0.5f), net_model_adapt_answer(&one), net_model_adapt_keep(kept),
         (int)net_model_adapt_save(blob, sizeof blob));
  net_model_adapt_begin();
  printf("%d%d%d%d%d\n", net_model_adapt_step(&one, 5, 0.5f), net_model_adapt_step(&one, -1, 0.5f), net_model_adapt_step(&none, 0, 0.5f),
         net_model_adapt_replay(NET_MODEL_ADAPT_REPLAYS, 0.5f), net_model_adapt_step_kept(NULL, 0, 0.5f));
  for (int i = 0; i < 3; ++i) net_model_adapt_step(&one, 3, 0.125f);
  for (int i = 0; i < 3; ++i) net_model_adapt_step(&two, 4, 0.125f);
  printf("%d ", net_model_adapt_answer(&one));
  for (int i = 0; i < NET_MODEL_CLASSES; ++i) show(net_model_adapt_probability(i));
  net_model_adapt_keep(kept);
  net_model_adapt_step_kept(kept, 0, 0.25f);
  for (int i = 0; i < NET_MODEL_ADAPT_REPLAYS; ++i) net_model_adapt_replay(i, 0.25f);
  net_model_adapt_flush(0.0625f);
  printf("\n%d %d\n", (int)net_model_adapt_save(blob, sizeof blob - 1), (int)net_model_adapt_save(blob, sizeof blob));
  for (unsigned i = 0; i < sizeof blob; ++i) printf("%02x", (unsigned)blob[i]);
  blob[20] ^= 4;
  net_model_adapt_begin();
  printf("\n%d", net_model_adapt_restore(blob, sizeof blob));
  blob[20] ^= 4;
  printf("%d%d", net_model_adapt_restore(blob, sizeof blob - 1), net_model_adapt_restore(blob, sizeof blob));
  net_model_adapt_save(other, sizeof other);
  printf("%d\n", memcmp(blob, other, sizeof blob));
  return 0;
}
"""


@needs_gcc
@pytest.mark.parametrize(("batch", "momentum", "runtime"), [(1, 0.0, "compiled-rows"), (5, 0.5, "compiled")])
def test_every_call_of_the_folder_in_c(task: Task, tmp_path: Path, batch: int, momentum: float, runtime: str) -> None:
    folder = made(task, classifier(task), runtime, batch=batch, momentum=momentum)
    write_folder(folder, tmp_path)
    status, text = on_this_machine(tmp_path)
    assert status == 0 and "net_model self-test: PASS" in text and "net_model adapt self-test: PASS" in text, text
    assert text.count("every parameter equal") == len(folder.learning.test) >= 4
    assert f"memory of learning {folder.learning.apart.own_bytes} bytes" in text
    (tmp_path / "driver.c").write_text(DRIVER)
    status, text = on_this_machine(tmp_path, "driver.c")
    assert status == 0, text
    refused, answer, saved, blob, restored = text.splitlines()
    assert (refused, restored) == ("0-100 00000", "0010")
    reference = BoardReference(folder.learning)
    learner = board_learner(task, budget_of(runtime))
    images, labels = np.array(task.train.inputs), np.array(task.train.labels)
    first, second = learner.kept(images[:2])
    for kept, label in [(first, 3)] * 3 + [(second, 4)] * 3:
        reference.step(kept, label, 0.125)
    logits = reference.logits(first)
    found, *shown = answer.split()
    assert int(found) == int(logits.argmax())
    assert [int(bits, 16) for bits in shown] == softmax_of(logits).view(np.uint32).tolist()
    reference.step(first, 0, 0.25)
    again = learner.kept(images[-6:])
    assert np.array_equal(again, folder.learning.replays)
    for kept, label in zip(again, labels[-6:], strict=True):
        reference.step(kept, int(label), 0.25)
    reference.flush(0.0625)
    assert saved == f"0 {folder.learning.blob_bytes}"
    assert bytes.fromhex(blob) == reference.blob()


#: A pool leaves the last row of an odd map; strides without a window leave the last of an even one.
UNREAD = (
    Arch(height=14, width=14, classes=3, stem=ConvLayer(out=8, stride=2), blocks=(ConvLayer(out=8), Pool())),
    Arch(height=16, width=16, classes=3, stem=ConvLayer(out=8), blocks=(Separable(out=8, kernel=1, stride=2),)),
    Arch(height=16, width=16, classes=3, stem=ConvLayer(out=8, kernel=1, stride=2)),
)


@needs_gcc
@pytest.mark.parametrize("runtime", ["compiled-rows", "compiled"])
@pytest.mark.parametrize("number", range(len(UNREAD)))
def test_rows_that_nobody_reads_are_not_computed_over_what_is_learned_from(number: int, runtime: str, tmp_path: Path) -> None:
    task = task_of(UNREAD[number])
    folder = made(task, classifier(task), runtime)
    stops = folder.files["network.c"].count(b".steps) return")
    # A row of the frame, too, would come to lie there as it is given; of the last one a whole frame is a segment of its own.
    assert stops == (2 if runtime == "compiled-rows" else 1 if number < 2 else 0)
    write_folder(folder, tmp_path)
    status, text = on_this_machine(tmp_path)
    assert status == 0 and "net_model self-test: PASS" in text and "net_model adapt self-test: PASS" in text, text


def test_a_folder_that_learns_takes_the_arena_that_was_promised(task: Task) -> None:
    # esp-nn's kernels want more scratch than TFLM's own: the plan in the file has to leave it room.
    wide = task_of(ARCH.model_copy(update={"height": 32, "width": 32}))
    for runtime, core in (("tflm-esp-nn", "xtensa-lx7"), ("tflm-cmsis-nn", "cortex-m55"), ("tflm", "cortex-m4")):
        budget = build(
            {"extra": "64 KiB", "runtime": runtime, "core": core, "learning": {"mode": "board", "lr": 0.05}}, UpdateBudget, source="a test"
        )
        learning = prepared(wide, board_learner(wide, budget), budget, classifier(wide))
        folder = build_folder(wide, learning, budget, "classifier")
        promised = estimate(learning.apart.graph, runtime, core=core).sram_bytes
        assert inspect(folder.model, kept=True).file.estimate(runtime, core=core).sram_bytes == promised


@needs_gcc
def test_a_board_that_learns_other_numbers_is_found(task: Task, tmp_path: Path) -> None:
    write_folder(made(task, classifier(task), "compiled"), tmp_path)
    code = (tmp_path / "adapt.c").read_text()
    (tmp_path / "adapt.c").write_text(code.replace("5.0000001201e-1f", "5.001e-1f"))
    status, text = on_this_machine(tmp_path)
    assert status == 1 and "parameters differ" in text and "adapt self-test: FAIL" in text and "net_model self-test: PASS" in text


@needs_wheel
@pytest.mark.parametrize(("batch", "momentum"), [(1, 0.0), (2, 0.5)])
def test_layers_are_learned_with_tflms_interpreter(task: Task, tmp_path: Path, batch: int, momentum: float) -> None:
    folder = made(task, deep(task.floats.graph), batch=batch, momentum=momentum)
    kinds = {op.kind for op in folder.learning.ops}
    assert kinds == {"conv", "dw", "add", "mean", "fc"}
    write_folder(folder, tmp_path)
    status, text = on_host(tmp_path, sources=[*CC_SOURCES, "adapt.cc", "adapt_data.cc"])
    assert status == 0 and "adapt self-test: PASS" in text, text
    assert f"memory of learning {folder.learning.apart.own_bytes} bytes" in text
    assert '#include "adapt.h"' in (tmp_path / "NetModel.h").read_text()
    assert "## Learning" in (tmp_path / "README.md").read_text()


@needs_tools
def test_a_compiled_network_learns_the_same_numbers_on_an_emulated_cortex_m4(task: Task, tmp_path: Path) -> None:
    folder = made(task, classifier(task), "compiled", momentum=0.5)
    write_folder(folder, tmp_path)
    tested = network_self_test(tmp_path, CORES["cortex-m4"])
    assert (tested.failed, tested.equal_images) == ("", 2)
    assert tested.arena_bytes == folder.learning.apart.arena.sram_bytes
    # That core's compiler fuses products into sums wherever nobody forbids it.
    code = (tmp_path / "adapt.c").read_text()
    (tmp_path / "fused.c").write_text(code.replace('#pragma GCC optimize("fp-contract=off")', ""))
    for name, fuses in (("adapt", False), ("fused", True)):
        command = ["arm-none-eabi-gcc", *CORES["cortex-m4"].flags, "-std=gnu99", "-O2", "-S", f"{name}.c", "-o", "-"]
        text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100).stdout
        assert ("vfma" in text) == fuses


@on_target
@pytest.mark.slow
def test_tflm_learns_the_same_numbers_in_the_memory_that_was_promised(task: Task, tmp_path: Path, emulated: Emulated) -> None:
    """On an emulated Cortex-M4 with CMSIS-NN."""
    thin = emulated("newest")
    folder = made(task, deep(task.floats.graph))
    write_folder(folder, tmp_path)
    tested = self_test(tmp_path, thin.core, thin.tree, thin.library)
    assert (tested.failed, tested.equal_images) == ("", 2)
    assert tested.used_arena_bytes is not None
    arena = folder.learning.apart.arena
    # What is promised, and planned in the file, is enough for the other version, too.
    own = inspect(folder.model, kept=True).file.estimate("tflm-cmsis-nn@2026-10", core="cortex-m4")
    assert own.head_bytes + own.tail_bytes - 16 < tested.used_arena_bytes <= own.head_bytes + own.tail_bytes <= arena.sram_bytes
    assert f"static float memory[{folder.learning.apart.own_bytes // 4}];" in (tmp_path / "adapt.cc").read_text()


# By the line


def test_adapt_export_by_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8, stride=2), blocks=(MBConv(out=8, expand=2),))
    net = tmp_path / "net.tflite"
    graph = lower(arch)
    net.write_bytes(serialize(random_quantized(graph), ModelMeta(arch.id, ("blue", "red")), plan_offline(graph)))
    new = write_images(tmp_path / "new", ("violet", "yellow"), train=4, test=1, seed=1)
    budget = tmp_path / "board.yaml"
    budget.write_text("extra: 4 KiB\nruntime: compiled\ncore: cortex-m4\nlearning: {mode: board}\n")
    line = ["adapt", "export", str(net), "-b", str(budget), "--data", str(new), "--out", str(tmp_path / "c")]
    assert tinynas([*line, "--scheme", "classifier", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["labels"] == ["blue", "red", "violet", "yellow"]
    assert document["learning_bytes"] == document["cost"]["extra_bytes"] == 4 * 36 + 16 + 16 and document["blob_bytes"] == 4 * (36 + 4)
    assert {"adapt.h", "adapt.c", "adapt_data.c", "network.c", "NetModel.zip"} <= set(document["files"])
    assert all((tmp_path / "c" / name).is_file() for name in document["files"])
    assert tinynas([*line, "--scheme", "classifier", "--set", "runtime=tflm"]) == 0
    assert "of an earlier export that this one does not write: adapt.c" in capsys.readouterr().out
    assert (tmp_path / "c" / "adapt.cc").is_file() and not list((tmp_path / "c").glob("*.c")), "a build by wildcard takes all that is there"
    for more, why in (
        ([], "a folder learns by one"),
        (["--scheme", "classifier", "--set", "learning.mode=float", "--set", "runtime=tflm"], "the mode board does"),
        (["--scheme", "velocity"], "no firmware learns by the scheme velocity"),
        (["--scheme", "classifier", "--set", "extra=64 B"], "the classifier alone does not fit"),
    ):
        assert tinynas([*line, *more]) == 2
        assert why in " ".join(capsys.readouterr().err.split())
