"""Files: one lock for every system. (Writes, lines and full disks: test_runs.py.)"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tinynas import files
from tinynas.errors import DiskError, UserError
from tinynas.files import cache_dir, disk_error, locked, replacing, write_atomic

#: Windows as far as the lock sees it: no fcntl, and an msvcrt that locks one byte from the position on, or raises EACCES.
WINDOWS = """
import errno, fcntl as real, os, sys
class msvcrt:
    LK_NBLCK, LK_UNLCK = 2, 0
    @staticmethod
    def locking(handle, mode, count):
        at = os.lseek(handle, 0, os.SEEK_CUR)
        print('byte', at, flush=True, file=sys.stderr)
        kind = real.LOCK_UN if mode == 0 else real.LOCK_EX | real.LOCK_NB
        try:
            real.lockf(handle, kind, count, at)
        except OSError:
            raise PermissionError(errno.EACCES, 'Permission denied') from None
sys.modules['fcntl'], sys.modules['msvcrt'] = None, msvcrt
"""
POSIX = ""


def _start(system: str, code: str) -> subprocess.Popen[str]:
    script = system + "\nfrom pathlib import Path\nfrom tinynas.files import append_line, lock, locked, unlock\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Windows is made of POSIX locks")
@pytest.mark.parametrize("system", [POSIX, WINDOWS], ids=["posix", "windows"])
def test_one_process_at_a_time_and_a_killed_one_frees_its_lock(system: str, tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "lock")
    holder = _start(system, f"with locked(Path({path!r})): print('in', flush=True); input()")
    assert holder.stdout is not None and holder.stdout.readline() == "in\n"
    refused = _start(
        system,
        f"""
        from tinynas.errors import UserError
        try:
            with locked(Path({path!r}), wait=False): print('in')
        except UserError as error: print(error.message)
        """,
    )
    assert "another process is working on it" in refused.communicate()[0]
    waiting = _start(system, f"with locked(Path({path!r})): print('in')")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1.0)
    holder.kill()
    assert waiting.communicate()[0] == "in\n" and waiting.returncode == 0
    holder.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Windows is made of POSIX locks")
@pytest.mark.parametrize("system", [POSIX, WINDOWS], ids=["posix", "windows"])
def test_workers_append_one_after_the_other(system: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    workers = [_start(system, f"for i in range(30): append_line(Path({str(log)!r}), {{'w': {w}, 'i': i}})") for w in range(2)]
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    found = sorted((line["w"], line["i"]) for line in files.read_lines(log))
    assert found == [(w, i) for w in range(2) for i in range(30)]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Windows is made of POSIX locks")
def test_windows_locks_a_byte_that_no_file_reaches_and_leaves_the_position_alone(tmp_path: Path) -> None:
    """A lock over the content would keep others from reading it: the byte is at 2 GiB, give or take 64 KiB."""
    code = f"""
    with open({str(tmp_path / "x")!r}, 'wb+') as file:
        file.write(b'abc'); file.seek(1)
        assert lock(file)
        print(file.read(1))
        unlock(file)
        print(file.read(1))
    """
    out, err = _start(WINDOWS, code).communicate()
    assert out == "b'b'\nb'c'\n"
    assert err.split() == ["byte", "2147418112"] * 2


def test_a_disk_without_locks_is_refused_where_the_lock_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object, **__: object) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files, "lock", none_here)
    with pytest.raises(DiskError, match="cannot be locked: Operation not supported"), locked(tmp_path / "l"):
        pytest.fail("entered without a lock")
    entered = False
    with locked(tmp_path / "l", needed=False):
        entered = True
    assert entered


def test_a_lock_that_is_free_again_can_be_taken_again(tmp_path: Path) -> None:
    with locked(tmp_path / "l", wait=False), pytest.raises(UserError, match="another process"), locked(tmp_path / "l", wait=False):
        pass
    with locked(tmp_path / "l", wait=False):
        pass


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "free some space and run"),
        (errno.EDQUOT, "free some space and run"),
        (errno.EACCES, "check the path and its permissions"),
    ],
)
def test_one_error_for_the_disk(number: int, told: str) -> None:
    error = disk_error("some/file", OSError(number, "words of the system"))
    assert error.message == "some/file: cannot be written: words of the system"
    assert error.hint is not None and error.hint.startswith(told) and error.exit_code == 2
    assert disk_error(None, OSError(number, "words of the system"), "used").message == "cannot be used: words of the system"


def test_the_cache_is_named_where_it_is_the_cache() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "TINYNAS_CACHE" not in str(disk_error("results/run/trials.jsonl", full).hint)
    for place in (None, cache_dir() / "images" / "x.npy"):
        assert "TINYNAS_CACHE moves the cache elsewhere" in str(disk_error(place, full).hint)


def test_what_the_block_raises_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "old")]


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(DiskError, match="is a device or a pipe"):
            write_atomic(path, "text")
    assert pipe.is_fifo() and sorted(found.name for found in tmp_path.iterdir()) == ["link", "pipe"]
