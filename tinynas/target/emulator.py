"""The emulator: runs an executable on an emulated core, and says how it ended."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tinynas.errors import UserError
from tinynas.target.cores import Core
from tinynas.target.library import PACKAGES, call

EMULATOR = "qemu-system-arm"
#: An emulated instruction takes 2^6 = 64 ns of the machine's time, more than a tick of its clock, so that each instruction shows.
ICOUNT_SHIFT = 6


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int | None
    """Its exit status; None where it did not end in time."""
    said: str
    """What it printed."""


def emulator_command(core: Core) -> list[str]:
    """The emulator's command for ``core``, up to the executable: what it prints and its exit status go through semihosting."""
    options = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel"]
    return [EMULATOR, "-M", core.machine, *options]


def emulate(elf: object, core: Core, *, seconds: float, counting: bool = False, extra: Sequence[str] = ()) -> Ended:
    """Run the executable ``elf`` on ``core`` for at most ``seconds``; ``counting`` ties the machine's clock to executed instructions.

    Raises UserError with the packages where the emulator is missing.
    """
    command = [*emulator_command(core), str(elf), *extra]
    command += ["-icount", f"shift={ICOUNT_SHIFT},sleep=off"] if counting else []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
        return Ended(done.returncode, done.stdout + done.stderr)
    except FileNotFoundError:
        raise UserError(f"{EMULATOR} is not installed", f"install it; on Debian and Ubuntu: apt install {PACKAGES}") from None
    except subprocess.TimeoutExpired as late:
        return Ended(None, (late.stdout or b"").decode("utf-8", "replace"))


def emulator_version() -> str:
    """First line of what the emulator says of itself. Raises UserError with the packages where it is missing."""
    return call([EMULATOR, "--version"], "ask the emulator for its version").splitlines()[0]
