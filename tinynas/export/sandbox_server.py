"""Forks the child processes of :mod:`tinynas.export.sandbox`: what every one of them needs is loaded once, and each runs one model.

A script of its own, ``python sandbox_server.py WORKER``; standard input is a socket. Each message on it is the name of a module that
the child will want, and carries four file descriptors: the child's standard input, output and error, and a pipe on which its process
id is written when it starts and its status, as of ``waitpid``, when it ends: 8 bytes each. It ends when the socket's other end closes.
Whatever is not as it should be ends it, and models then run in processes started anew.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, Never

NUMBER = struct.Struct("<q")
_FILES = 4


def serve(asked: socket.socket, worker: Callable[[], Any]) -> None:
    """Answer messages until the other end closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the children
    while True:
        wanted, files, _, _ = socket.recv_fds(asked, 256, _FILES)
        if not wanted or len(files) != _FILES:
            return
        with contextlib.suppress(Exception):  # the child will say so
            importlib.import_module(wanted.decode())
        if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208  # only what has one thread can be forked safely
            return
        if os.fork() == 0:
            _watch(worker, files)
        for file in files:
            os.close(file)


def _watch(worker: Callable[[], Any], files: list[int]) -> Never:
    """Fork the child, and say how it ended."""
    status = files[-1]
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if child == 0:
            os.close(status)
            _run(worker, files[:-1])
        os.write(status, NUMBER.pack(child))
        os.write(status, NUMBER.pack(os.waitpid(child, 0)[1]))
    finally:
        os._exit(0)


def _run(worker: Callable[[], Any], files: list[int]) -> Never:
    """Be the child: as an interpreter ends that runs a script."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        worker()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=os.dup(0)), runpy.run_path(sys.argv[1], run_name="worker")["main"])
