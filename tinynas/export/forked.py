"""Child processes forked of one that has loaded what they need: a tenth of the time that an interpreter takes to start.

Each is as apart from the others as if it had been started anew: a model that crashes takes none with it, and leaves nothing behind.
Where there is no such thing as forking safely (anywhere but on Linux), the caller starts processes by itself.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tinynas.export.sandbox_server import NUMBER

_SERVER = Path(__file__).with_name("sandbox_server.py")


class ForkServer:
    """One process that forks the children of ``worker``, a script with a function ``main``."""

    def __init__(self, worker: Path) -> None:
        self.worker, self.owner = worker, os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SERVER), str(worker)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us alone; we end the child
            )

    @property
    def good(self) -> bool:
        """Whether it serves this process: one that was forked of ours needs its own."""
        return self.owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """End it, where it is ours."""
        self._socket.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()

    def run(self, sent: bytes, seconds: float, module: str) -> tuple[int, bytes, bytes] | None:
        """(return code, standard output, standard error) of a child that reads ``sent`` and will want ``module``; the code is that of
        :class:`subprocess.Popen`. None where the server is gone: nothing is known of the child then.

        Raises subprocess.TimeoutExpired, with the child killed.
        """
        with contextlib.ExitStack() as kept:
            files = [os.memfd_create(name) for name in ("input", "output", "error")]
            read, write = os.pipe()
            for file in (*files, read):
                kept.callback(os.close, file)
            with open(files[0], "wb", closefd=False) as stream:
                stream.write(sent)
            os.lseek(files[0], 0, os.SEEK_SET)
            try:
                socket.send_fds(self._socket, [module.encode()], [*files, write])
            except OSError:
                return None
            finally:
                os.close(write)
            status = self._status(read, seconds)
            if status is None:
                return None
            output, error = (os.pread(file, os.fstat(file).st_size, 0) for file in files[1:])
            return os.waitstatus_to_exitcode(status), output, error

    def _status(self, pipe: int, seconds: float) -> int | None:
        """What is said on ``pipe``: the child's process id, then its status; None where that ends before."""
        numbers: list[int] = []
        try:
            end = time.monotonic() + seconds
            waiting = select.poll()
            waiting.register(pipe, select.POLLIN)
            while len(numbers) < 2:
                if not waiting.poll(max(0.0, 1000 * (end - time.monotonic()))):
                    raise subprocess.TimeoutExpired(str(self.worker), seconds)
                said = os.read(pipe, NUMBER.size)
                if len(said) < NUMBER.size:
                    return None
                numbers += NUMBER.unpack(said)
        except BaseException:
            with contextlib.suppress(OSError):
                if numbers:
                    os.kill(numbers[0], signal.SIGKILL)
                else:
                    self._process.kill()
            raise
        return numbers[1]


_servers: dict[Path, ForkServer] = {}
_ended: set[Path] = set()
"""Workers whose server ended by itself: theirs are started anew from then on."""
_lock = threading.Lock()


def run_forked(worker: Path, sent: bytes, seconds: float, module: str) -> tuple[int, bytes, bytes] | None:
    """:meth:`ForkServer.run` of the server of ``worker``, which is started where there is none. None where nothing can be forked."""
    with _lock:
        if sys.platform != "linux" or worker in _ended:
            return None
        server = _servers.get(worker)
        if server is None or not server.good:
            if server is not None:
                server.close()
            server = _servers[worker] = ForkServer(worker)
    found = server.run(sent, seconds, module)
    if found is None:
        _ended.add(worker)
    return found


@atexit.register
def _close() -> None:
    for server in _servers.values():
        server.close()
