"""Compilers that keep what they made: in front of the real ones on the path of a test session (the fixture is in conftest.py).

What several tests compile, from the same text with the same flags, is compiled once. The key is the text after the preprocessor, so that
a changed source, header or macro is another one; what the compiler said a word about is not kept, and anything but compiling C and C++
goes to the real compiler as it is. Nothing outlives the session.

Run as a script under the name of a compiler: ``gcc ...``, with the folder of objects beside its own.
"""

from __future__ import annotations

# This starts as often as a compiler, and pathlib would double what that takes.
# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH110, PTH120, PTH122, PTH123, PTH202
import os
import sys

TOOLS = ("gcc", "g++", "clang", "arm-none-eabi-gcc", "arm-none-eabi-g++")
_SUFFIXES = (".c", ".cc", ".cpp")
#: Options whose value is the next word; of the first, nothing is left behind the preprocessor.
_PREPROCESSOR = ("-I", "-D", "-U", "-include", "-isystem", "-iquote", "-idirafter", "-imacros")
_WITH_VALUE = (*_PREPROCESSOR, "-o", "-L", "-l", "-T", "-u", "-Xlinker")
#: Such commands are the real compiler's alone.
_NOT_OURS = ("-E", "-S", "-M", "-x", "-v", "--", "-###", "@", "-save", "-print", "-dump")
#: Sources of TFLM are compiled once each, by those who keep the library.
_LIBRARY = ("/tensorflow/", "/third_party/", "/all.c")


def install(folder: str, path: str) -> str:
    """Put the compilers that ``path`` has into ``folder``; gives the path with them in front."""
    import shutil

    if " " in sys.executable:
        return path  # no script can name it
    os.makedirs(f"{folder}/objects", exist_ok=True)
    os.makedirs(f"{folder}/bin", exist_ok=True)
    with open(__file__, encoding="utf-8") as own:
        script = f"#!{sys.executable} -IS\n{own.read()}"
    for tool in TOOLS:
        if shutil.which(tool, path=path) is not None:
            made = f"{folder}/{os.getpid()}-{tool}"
            with open(made, "w", encoding="utf-8") as written:
                written.write(script)
            os.chmod(made, 0o755)
            os.replace(made, f"{folder}/bin/{tool}")
    return f"{folder}/bin{os.pathsep}{path}"


def _parted(arguments: list[str]) -> tuple[list[str], list[str], list[int]] | None:
    """(flags of compiling, those that are left behind the preprocessor, places of the sources); None where it is not for us."""
    flags: list[str] = []
    left: list[str] = []
    sources: list[int] = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word.startswith(_NOT_OURS):
            return None
        if word in _WITH_VALUE:
            if word in _PREPROCESSOR:
                flags += arguments[at : at + 2]
            at += 1
        elif word.startswith("-"):
            if word.startswith(_PREPROCESSOR):
                flags.append(word)
            elif word != "-c" and not word.startswith(("-o", "-L", "-l", "-Wl,")):
                flags.append(word)
                left.append(word)
        elif word.endswith(_SUFFIXES):
            if any(part in os.path.realpath(word) for part in _LIBRARY):
                return None
            sources.append(at)
        at += 1
    return flags, left, sources


def _ran(command: list[str], errors: str) -> bool:
    """Whether it ended well without a word."""
    with open(errors, "wb") as said:
        child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 2)])
        status = os.waitpid(child, 0)[1]
    good = status == 0 and os.path.getsize(errors) == 0
    os.unlink(errors)
    return good


def _object(real: str, flags: list[str], left: list[str], source: str, objects: str) -> str | None:
    """The kept object of ``source``; None where the compiler has something to say."""
    import hashlib

    part = f"{objects}/{os.getpid()}"
    if not _ran([real, *flags, "-E", "-P", source, "-o", f"{part}.i"], f"{part}.err"):
        return None
    with open(f"{part}.i", "rb") as text:
        content = text.read()
    os.unlink(f"{part}.i")
    key = hashlib.sha256("\0".join([real, *left, os.path.splitext(source)[1], ""]).encode() + content).hexdigest()
    kept = f"{objects}/{key}.o"
    if not os.path.exists(kept):
        if not _ran([real, *flags, "-c", source, "-o", f"{part}.o"], f"{part}.err"):
            return None  # its object is left behind, for nobody
        os.replace(f"{part}.o", kept)
    return kept


def main() -> None:
    """Be the compiler whose name this has."""
    own, tool = os.path.split(sys.argv[0])
    places = [place for place in os.environ["PATH"].split(os.pathsep) if place != own]
    real = next(f"{place}/{tool}" for place in places if os.access(f"{place}/{tool}", os.X_OK))
    arguments = sys.argv[1:]
    parted = _parted(arguments)
    if parted is not None and parted[2] and "-o" in arguments and ("-c" not in arguments or len(parted[2]) == 1):
        flags, left, sources = parted
        made = [_object(real, flags, left, arguments[at], f"{os.path.dirname(own)}/objects") for at in sources]
        if None not in made:
            if "-c" in arguments:
                with open(str(made[0]), "rb") as kept, open(arguments[arguments.index("-o") + 1], "wb") as wanted:
                    wanted.write(kept.read())
                sys.exit(0)
            for at, name in zip(sources, made, strict=True):
                arguments[at] = str(name)
    os.execv(real, [real, *arguments])


if __name__ == "__main__":
    main()
