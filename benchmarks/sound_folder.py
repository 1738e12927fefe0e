"""What stands around front end and network in a folder of sound as C, in bytes of flash: the table tinynas/cost/sound_folder.json.

Folders of two networks (3 classes and 24 frames, 12 classes and 49 frames), which hear whole clips (their frames kept, or row by row) or a
stream, and tell one class or several at once, are written. Their ``hear.c``, ``classifier.c`` and labels are linked for each emulated core
with a front end and a network that do nothing, into a program that hears and asks for the answer; what these two and an empty program take
is taken away, and so are labels, thresholds and the table of chances, which follow from the classes. The most of each kind is the table.
Functions of the C library that front end and network bring too are counted: so much less is linked where they are shared.

    python benchmarks/sound_folder.py            # 2 minutes on one core
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from tinynas.arch import Arch
from tinynas.cost import plan_offline, sound_folder
from tinynas.cost.sound_folder import label_bytes
from tinynas.export.compiled_firmware import build_compiled_firmware
from tinynas.export.folder import Thresholds
from tinynas.export.stream_firmware import build_stream_firmware
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.front_end import FrontEnd
from tinynas.graph import lower
from tinynas.quantize.grid import random_quantized
from tinynas.target.cores import CORES, Core
from tinynas.target.program import compile_program, link_program, listening_flash

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tinynas" / "cost" / "sound_folder.json"
CASES = ((3, FrontEnd(clip_ms=400, window_ms=32, stride_ms=16, bins=20, sample_rate=8000)), (12, FrontEnd()))
#: A network and a front end that do nothing, by how frames come.
IDLE = {
    "kept": "uint8_t *net_frame(net_t *m) { return (uint8_t *)m->area; }\n"
    "void net_run(net_t *m, const uint8_t *frame) { m->area[0] = frame != 0; }\n",
    "rows": "void net_init(net_t *m) { m->area[0] = 0; }\n"
    "int net_push_row(net_t *m, const uint8_t *row) { return m->area[0] += row[0]; }\n",
    "stream": "void net_reset(net_t *m) { m->area[0] = 0; }\nint net_step(net_t *m, const uint8_t *row) { return m->area[0] += row[0]; }\n",
}
_BOTH = """#include "front_end.h"
#include "network.h"
const int8_t *net_result(const net_t *m) { return (const int8_t *)m->area; }
void net_front_end_start(net_front_end_t *state) { *(uint8_t *)state = 1; }
int net_front_end_push(net_front_end_t *state, const int16_t *samples, int count, uint8_t *frame, int *ready) {
  *ready = frame[0] = *(uint8_t *)state;
  return count < samples[0] ? count : 1;
}
"""
_CALLS = """#include "front_end.h"
#include "network.h"
extern net_t net;
net_t net;
extern net_front_end_t ear;
net_front_end_t ear;
int main(void) {
  int ready;
  net_front_end_start(&ear);
  int found = net_front_end_push(&ear, (const int16_t *)&ear, 9, (uint8_t *)&net, &ready) + ready;
"""
_NEEDED = ("hear.c", "classifier.c", "model_settings.c")


def folders() -> Iterator[tuple[str, str, str, int, dict[str, bytes]]]:
    """(takes, told, how frames come, bytes that are no code, files) of every folder."""
    for classes, front_end in CASES:
        height, width, channels = front_end.shape
        shape = {"height": height, "width": width, "channels": channels, "classes": classes, "front_end": front_end}
        qgraph = random_quantized(lower(Arch.model_validate({**shape, "stem": {"out": 4, "stride": 2}, "causal": True})), seed=1)
        held = storable(qgraph)
        # Those that are no events last: all four of twelve classes, one of three.
        labels = [f"word {number}" for number in range(classes)]
        labels[-(classes // 3) :] = ["noise", "unknown", "silence", "background"][: classes // 3]
        model = serialize(held, ModelMeta("0123456789", tuple(labels)), plan_offline(held.graph))
        for told, decision in (("one", None), ("several", Thresholds((0,) * classes, ("a benchmark",)))):
            fixed = label_bytes(labels) + 2 * -(-2 * classes // 4) * 4 * (told == "several")
            for frame in ("kept", "rows"):
                options = {"labels": labels, "name": "net", "decision": decision}
                yield "clip", told, frame, fixed, build_compiled_firmware(held, model, frame=frame, images=None, **options)  # type: ignore[arg-type]
            files = build_stream_firmware(qgraph, model, labels=labels, name="net", decision=decision)
            chances = files["hear.c"].decode().partition("falling[FALLING] = {")[2].partition("}")[0]
            yield "frame", told, "stream", fixed + 2 * len(chances.split(",")) * (told == "one"), files


def code_bytes(core: Core, files: dict[str, bytes], frame: str, *, several: bool) -> int:
    """Bytes that what stands around front end and network of a folder's ``files`` adds to a program."""
    # The network's names begin with the folder's.
    texts = {name: content.replace(b"net_model", b"net").replace(b"NET_MODEL", b"NET") for name, content in files.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        headers = {name: content for name, content in texts.items() if name.endswith(".h") and "/" not in name}
        idle = {"idle.c": _BOTH + IDLE[frame]}
        objects = compile_program(core, {**headers, **idle, **{name: texts[name] for name in _NEEDED}}, folder)
        whole = listening_flash(core, "net", objects, folder, several=several)
        asks = {"kept": "net_frame(&net)[0] = 1; net_run(&net, 0);", "rows": "net_init(&net); found += net_push_row(&net, 0);"}
        asks["stream"] = "net_reset(&net); found += net_step(&net, 0);"
        text = f"{_CALLS}  {asks[frame]}\n  return found + *net_result(&net);\n}}\n"
        empty = "#include <stdint.h>\nextern uint8_t net[64];\nuint8_t net[64];\nint main(void) { return net[3]; }\n"
        sizes = [
            link_program(core, [objects[0], *compile_program(core, {f"{name}.c": main}, folder)], folder, "--specs=nano.specs").flash_bytes
            for name, main in (("alone", text), ("nothing", empty))
        ]
    return whole - (sizes[0] - sizes[1])


def main() -> None:
    table: dict[str, dict[str, int]] = {name: {} for name in CORES}
    blank = {f"{takes} {told}": 0 for takes in ("clip", "frame") for told in ("one", "several")}
    with mock.patch.object(sound_folder, "measured", lambda: {"": blank}):  # what their READMEs say meanwhile
        written = list(folders())
    for takes, told, frame, fixed, files in written:
        for core in CORES.values():
            found = code_bytes(core, files, frame, several=told == "several") - fixed
            kind = f"{takes} {told}"
            print(core.name, kind, frame, found, flush=True)
            table[core.name][kind] = max(table[core.name].get(kind, 0), found)
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
