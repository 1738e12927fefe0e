"""Programs of C for an emulated core: built, measured, run, with instructions counted and the stack painted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinynas.errors import UserError
from tinynas.target.cores import Core
from tinynas.target.emulator import emulate
from tinynas.target.flash import flash_of
from tinynas.target.library import call, compile_source
from tinynas.target.probe import _SOURCES, instructions, link

#: How compiled networks are compiled.
LEVEL = "-O2"
#: Included by programs: ``ticks()``, ``start_clock()``, and ``paint()`` and ``painted(stack_pointer())`` for the bytes of stack
#: that calls in between took.
HEADER = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
extern volatile uint32_t tinynas_wraps;
static inline uint64_t ticks(void) {
  for (;;) {
    const uint32_t wraps = tinynas_wraps, low = *(volatile uint32_t *)0xE000E018u;
    if (wraps == tinynas_wraps) return ((uint64_t)wraps << 24) + (0xFFFFFFu - low);
  }
}
static inline void start_clock(void) {
  *(volatile uint32_t *)0xE000E014u = 0xFFFFFFu;
  *(volatile uint32_t *)0xE000E018u = 0;
  *(volatile uint32_t *)0xE000E010u = 7;
  while (*(volatile uint32_t *)0xE000E018u == 0) {
  }
}
#define STACK_BYTES 8192
#define STACK_PAINT 0xa5a5a5a5u
static inline __attribute__((always_inline)) uintptr_t stack_pointer(void) {
  uintptr_t at;
  __asm__ volatile("mov %0, sp" : "=r"(at));
  return at;
}
/* Paints the stack below its own frame. */
static __attribute__((noinline)) void paint(void) {
  const uintptr_t top = stack_pointer() - 64;
  for (uintptr_t at = top - STACK_BYTES; at < top; at += 4) *(volatile uint32_t *)at = STACK_PAINT;
}
/* Bytes of stack that what was called since then took below `from`, the caller's stack pointer. */
static __attribute__((noinline)) uint32_t painted(uintptr_t from) {
  uintptr_t at = from - STACK_BYTES;
  while (at < from && *(volatile uint32_t *)at == STACK_PAINT) at += 4;
  return (uint32_t)(from - at);
}
"""


@dataclass(frozen=True)
class Program:
    """A linked program."""

    elf: Path
    flash_bytes: int
    """Code, constants and initialised data of all of it."""


def compile_program(core: Core, sources: Mapping[str, str | bytes], folder: Path, flags: Sequence[str] = ()) -> list[Path]:
    """The objects of ``sources`` (file name -> text, headers too), compiled in ``folder`` for ``core``. Raises UserError with the tools'
    words."""
    objects = []
    for name, text in {**sources, "emulated.h": HEADER}.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for name in sources:
        if name.endswith(".c"):
            objects.append(folder / f"{name}.o")
            command = ["arm-none-eabi-gcc", "-std=c99", LEVEL, *_common(core, folder), *flags, "-c", str(folder / name)]
            call([*command, "-o", str(objects[-1])], f"compile {name}")
    return objects


def link_program(core: Core, objects: Sequence[Path], folder: Path, *extra: str) -> Program:
    """A program of ``objects``, and what starts it on an emulated core. Raises UserError with the tools' words."""
    startup, elf = folder / "startup.o", folder / "program.elf"
    if not startup.is_file():
        compile_source(_SOURCES / "startup.cc", startup, (*_common(core, folder), f"-DTINYNAS_FLOAT_UNIT={int(core.float_unit)}"))
    link(core, [*objects, startup], elf, *extra)
    return Program(elf, flash_of(call(["arm-none-eabi-size", "-A", str(elf)], "measure the program")))


def _common(core: Core, folder: Path) -> tuple[str, ...]:
    return (*core.flags, "-ffunction-sections", "-fdata-sections", f"-I{folder}")


def run_emulated(program: Program, core: Core, *, seconds: float = 120.0) -> list[list[str]]:
    """What ``program`` prints, as words, line by line; instructions tied to the clock. Raises UserError where it dies."""
    ended = emulate(program.elf, core, seconds=seconds, counting=True)
    if ended.status is None:
        raise UserError(f"the program ran longer than {seconds:g} s on the emulated {core.title}")
    lines = [line.split() for line in ended.said.splitlines()]
    if ended.status != 0 or ["done"] not in lines:
        raise UserError(f"the program died on the emulated {core.title}: {ended.said[-300:]!r}")
    return lines


# compiled networks ---------------------------------------------------------------------------------------

_MAIN = r"""
#include "emulated.h"
#include "%(name)s.h"
static const uint8_t frames[%(count)d][%(bytes)d] = {
%(frames)s
};
static %(name)s_t net;
static uint64_t begun;
static uint64_t spent[%(operators)d];
void %(name)s_trace(int op, int ends);
void %(name)s_trace(int op, int ends) {
  if (ends) spent[op] += ticks() - begun;
  else begun = ticks();
}
int main(void) {
  for (int i = 0; i < %(count)d; ++i) {
    memset(&net, 0xa5, sizeof net);
    paint();
    %(name)s_run(&net, frames[i]);
    printf("stack %%lu\n", (unsigned long)painted(stack_pointer()));
    uint32_t last = 0;
    for (uint32_t j = 0; j < sizeof net.area; ++j) if (((const uint8_t *)net.area)[j] != 0xa5) last = j + 1;
    printf("touched %%lu\noutput ", (unsigned long)last);
    for (int j = 0; j < %(outputs)d; ++j) printf("%%02x", (unsigned)(uint8_t)%(name)s_result(&net)[j]);
    printf("\n");
  }
  start_clock();
  const uint64_t from = ticks();
  %(name)s_run(&net, frames[0]);
  printf("all %%lu\n", (unsigned long)(ticks() - from));
#ifdef %(UPPER)s_TRACE
  for (int i = 0; i < %(operators)d; ++i) printf("op %%d %%lu\n", i, (unsigned long)spent[i]);
#endif
  printf("done\n");
  return 0;
}
"""


#: Each clip from a reset, frame by frame; then a period of steps, each measured.
_STREAM_MAIN = r"""
#include "emulated.h"
#include "%(name)s.h"
static const uint8_t clips[%(count)d][%(bytes)d] = {
%(frames)s
};
static %(name)s_t net;
static uint64_t begun;
static uint64_t spent[%(operators)d], longest[%(operators)d];
void %(name)s_trace(int op, int ends);
void %(name)s_trace(int op, int ends) {
  if (ends) spent[op] += ticks() - begun;
  else begun = ticks();
}
int main(void) {
  for (int i = 0; i < %(count)d; ++i) {
    uint32_t stack = 0;
    memset(&net, 0xa5, sizeof net);
    %(name)s_reset(&net);
    for (int j = 0; j < %(bytes)d; j += %(row)d) {
      paint();
      %(name)s_step(&net, clips[i] + j);
      const uint32_t used = painted(stack_pointer());
      if (used > stack) stack = used;
    }
    printf("stack %%lu\ntouched %%lu\noutput ", (unsigned long)stack, (unsigned long)sizeof net.area); /* a reset writes all of it */
    for (int j = 0; j < %(outputs)d; ++j) printf("%%02x", (unsigned)(uint8_t)%(name)s_result(&net)[j]);
    printf("\n");
  }
  start_clock();
  uint64_t all = 0, most = 0;
  for (int i = 0; i < %(period)d; ++i) {
    memset(spent, 0, sizeof spent);
    const uint64_t from = ticks();
    %(name)s_step(&net, clips[0] + i * %(row)d %% %(bytes)d);
    const uint64_t step = ticks() - from;
    all += step;
    if (step <= most) continue;
    most = step;
    memcpy(longest, spent, sizeof spent);
  }
  printf("all %%lu\nperiod %%lu\n", (unsigned long)most, (unsigned long)all);
#ifdef %(UPPER)s_TRACE
  for (int i = 0; i < %(operators)d; ++i) printf("op %%d %%lu\n", i, (unsigned long)longest[i]);
#endif
  printf("done\n");
  return 0;
}
"""


@dataclass(frozen=True)
class NetworkRun:
    """What a compiled network did on an emulated core."""

    outputs: tuple[bytes, ...]
    stack_bytes: int
    """Most bytes of stack under the call."""
    touched_bytes: int
    """Bytes of the area up to the last one that was written."""
    flash_bytes: int
    """Code and constants that the network adds to a program."""
    instructions: int
    """Executed in one inference; of a stream in the step that takes most."""
    by_operator: tuple[int, ...]
    """Of each operator, in the graph's order; the driver's own are not in it."""
    step_instructions: float | None = None
    """Executed in a step of a stream, on average over a period."""


def added_flash(core: Core, name: str, objects: Sequence[Path], folder: Path, *, stream: bool = False) -> int:
    """Bytes of code and constants that the compiled network ``name``, whose ``objects`` and header lie in ``folder``, adds to a program
    for ``core``. ``stream``: it takes one frame in each step."""
    small = f'#include "{name}.h"\nextern {name}_t net;\n{name}_t net;\n'
    calls = f"{name}_reset(&net); {name}_step" if stream else f"{name}_run"
    small += f"int main(void) {{ {calls}(&net, (const uint8_t *)&net); return *{name}_result(&net); }}\n"
    empty = "#include <stdint.h>\nextern uint8_t net[64];\nuint8_t net[64];\nint main(void) { return net[3]; }\n"
    mains = [compile_program(core, {f"{what}.c": text}, folder) for what, text in (("small", small), ("empty", empty))]
    with_it = link_program(core, [*objects, *mains[0]], folder, "--specs=nano.specs").flash_bytes
    return with_it - link_program(core, mains[1], folder, "--specs=nano.specs").flash_bytes


def run_network(
    core: Core,
    name: str,
    files: Mapping[str, bytes],
    frames: Sequence[bytes],
    *,
    outputs: int,
    operators: int,
    flags: Sequence[str] = (),
    row_bytes: int | None = None,
    period: int = 1,
) -> NetworkRun:
    """Run the compiled network ``name`` (its ``files``) on ``core`` with each of ``frames``, and measure it. ``row_bytes``: it is a stream,
    which takes so many bytes of a frame (a clip then) in each step, and repeats itself after a ``period`` of steps.

    Raises UserError where the tool chain or the emulator is wanting, or the program dies.
    """
    rows = ",\n".join("  {" + ",".join(map(str, frame)) + "}" for frame in frames)
    words = {"name": name, "UPPER": name.upper(), "count": len(frames), "bytes": len(frames[0]), "frames": rows}
    words |= {"outputs": outputs, "operators": operators, "row": row_bytes, "period": period}
    main = (_MAIN if row_bytes is None else _STREAM_MAIN) % words
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        objects = compile_program(core, files, folder, flags)
        flash = added_flash(core, name, objects, folder, stream=row_bytes is not None)
        lines = run_emulated(link_program(core, [*objects, *compile_program(core, {"main.c": main}, folder, flags)], folder), core)
        tracing = (*flags, f"-D{name.upper()}_TRACE")
        traced = run_emulated(link_program(core, compile_program(core, {**files, "main.c": main}, folder, tracing), folder), core)
    said: dict[str, list[str]] = {}
    for words_ in lines:
        said.setdefault(words_[0], []).extend(words_[1:])
    by_operator = tuple(instructions(int(line[2]), core) for line in traced if line[0] == "op")
    return NetworkRun(
        tuple(bytes.fromhex(text) for text in said["output"]),
        max(map(int, said["stack"])),
        max(map(int, said["touched"])),
        flash,
        instructions(int(said["all"][0]), core),
        by_operator,
        None if row_bytes is None else instructions(int(said["period"][0]), core) / period,
    )


# front ends ----------------------------------------------------------------------------------------------

_SOUND_MAIN = r"""
#include "emulated.h"
#include "front_end.h"
static const int16_t samples[%(clips)d][%(UPPER)s_CLIP] = {
%(samples)s
};
static %(name)s_front_end_t state;
int main(void) {
  uint8_t frame[%(UPPER)s_FEATURES];
  printf("state %%lu\n", (unsigned long)sizeof state);
  start_clock();
  for (int i = 0; i < %(clips)d; ++i) {
    uint64_t most = 0, all = 0;
    uint32_t stack = 0;
    %(name)s_front_end_start(&state);
    printf("frames ");
    for (int at = 0; at < %(UPPER)s_CLIP;) {
      int ready, piece = %(piece)d;
      if (piece > %(UPPER)s_CLIP - at) piece = %(UPPER)s_CLIP - at;
      paint();
      const uint64_t from = ticks();
      at += %(name)s_front_end_push(&state, samples[i] + at, piece, frame, &ready);
      const uint64_t spent = ticks() - from;
      const uint32_t used = painted(stack_pointer());
      if (used > stack) stack = used;
      all += spent;
      if (ready && spent > most) most = spent;
      for (int j = 0; ready && j < %(UPPER)s_FEATURES; ++j) printf("%%02x", (unsigned)frame[j]);
    }
    printf("\nstack %%lu\nmost %%lu\nall %%lu\n", (unsigned long)stack, (unsigned long)most, (unsigned long)all);
  }
  printf("done\n");
  return 0;
}
"""


@dataclass(frozen=True)
class FrontEndRun:
    """What a front end in C did on an emulated core."""

    frames: tuple[bytes, ...]
    """Of each clip, its frames one behind the other."""
    state_bytes: int
    stack_bytes: int
    """Most bytes of stack under the call."""
    flash_bytes: int
    """Code and tables that it adds to a program."""
    frame_instructions: int
    """Most executed by a call that finished a frame."""
    clip_instructions: tuple[int, ...]
    """Executed over each clip."""


def run_front_end(core: Core, name: str, files: Mapping[str, bytes], clips: Sequence[Sequence[int]], *, piece: int = 160) -> FrontEndRun:
    """Run the front end ``name`` (its ``front_end.c`` and ``.h``) on ``core`` over ``clips`` of samples, ``piece`` samples a call.

    Raises UserError where the tool chain or the emulator is wanting, or the program dies.
    """
    rows = ",\n".join("  {" + ",".join(map(str, clip)) + "}" for clip in clips)
    main = _SOUND_MAIN % {"name": name, "UPPER": name.upper(), "clips": len(clips), "samples": rows, "piece": piece}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        objects = compile_program(core, files, folder)
        flash = front_end_flash(core, name, objects, folder)
        program = link_program(core, [*objects, *compile_program(core, {"main.c": main}, folder)], folder)
        lines = run_emulated(program, core)
    said: dict[str, list[str]] = {}
    for words in lines:
        said.setdefault(words[0], []).extend(words[1:])
    return FrontEndRun(
        tuple(bytes.fromhex(text) for text in said["frames"]),
        int(said["state"][0]),
        max(map(int, said["stack"])),
        flash,
        max(instructions(int(ticks), core) for ticks in said["most"]),
        tuple(instructions(int(ticks), core) for ticks in said["all"]),
    )


def listening_flash(core: Core, name: str, objects: Sequence[Path], folder: Path, *, several: bool = False) -> int:
    """Bytes of code and constants that a folder of sound, whose ``objects`` and headers lie in ``folder``, adds to a program for ``core``
    that hears, and asks for the answer, its label and its score. ``several``: also for each class whether it is there."""
    heard = f"{name}_score(found) + {name}_labels[found][0] + {name}_answer() + {name}_output()[0]"
    heard += f" + {name}_there(0) + {name}_present(0)" if several else ""
    small = f'#include "classifier.h"\n#include "hear.h"\nint main(void) {{\n  {name}_hear_start();\n'
    small += f"  const int found = {name}_hear((const int16_t *){name}_network(), 9);\n  return found < 0 ? 0 : {heard};\n}}\n"
    empty = "#include <stdint.h>\nextern uint8_t net[64];\nuint8_t net[64];\nint main(void) { return net[3]; }\n"
    mains = [compile_program(core, {f"{what}.c": text}, folder) for what, text in (("small", small), ("empty", empty))]
    with_it = link_program(core, [*objects, *mains[0]], folder, "--specs=nano.specs").flash_bytes
    return with_it - link_program(core, mains[1], folder, "--specs=nano.specs").flash_bytes


def front_end_flash(core: Core, name: str, objects: Sequence[Path], folder: Path) -> int:
    """Bytes of code and tables that the front end ``name``, whose ``objects`` and header lie in ``folder``, adds to a program."""
    small = f'#include "front_end.h"\nextern {name}_front_end_t net;\n{name}_front_end_t net;\nint main(void) {{\n  int ready;\n'
    small += f"  {name}_front_end_start(&net);\n"
    small += f"  return {name}_front_end_push(&net, (const int16_t *)&net, 9, (uint8_t *)&net, &ready) + ready;\n}}\n"
    empty = "#include <stdint.h>\nextern uint8_t net[64];\nuint8_t net[64];\nint main(void) { return net[3]; }\n"
    mains = [compile_program(core, {f"{what}.c": text}, folder) for what, text in (("small", small), ("empty", empty))]
    with_it = link_program(core, [*objects, *mains[0]], folder, "--specs=nano.specs").flash_bytes
    return with_it - link_program(core, mains[1], folder, "--specs=nano.specs").flash_bytes
