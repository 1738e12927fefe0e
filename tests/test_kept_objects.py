"""The compilers of a test session give what the real ones give: what changed is compiled anew, and what they have to say is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from kept_objects import install

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")

MAIN = '#include <stdio.h>\n#include "b.h"\nint main(void) { printf("%d\\n", B); return 0; }\n'


def test_only_what_is_the_same_and_said_without_a_word_is_kept(tmp_path: Path) -> None:
    others = [place for place in os.environ["PATH"].split(os.pathsep) if not place.endswith("compilers/bin")]
    environment = {**os.environ, "PATH": install(str(tmp_path / "kept"), os.pathsep.join(others))}
    assert shutil.which("gcc", path=environment["PATH"]) == str(tmp_path / "kept/bin/gcc")

    def gcc(place: str, *words: str) -> tuple[int, str, int]:
        """(exit status, what it said, objects that are kept)."""
        done = subprocess.run(["gcc", *words], cwd=tmp_path / place, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr, sum(len(path.stem) == 64 for path in (tmp_path / "kept/objects").iterdir())

    def printed(place: str) -> str:
        return subprocess.run([tmp_path / place / "p"], capture_output=True, text=True, check=True).stdout

    for place, number in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.c").write_text(MAIN)
        (tmp_path / place / "b.h").write_text(f"#define B {number}\n")
        kept = {"one": 1, "two": 1, "three": 2}[place]
        assert gcc(place, "-O1", "-Wall", "-I.", "-c", "a.c", "-o", "a.o") == (0, "", kept)
        assert gcc(place, "a.o", "-o", "p") == (0, "", kept) and printed(place) == f"{number}\n"
    # Compiled and linked at once; another flag is another object, and so is another macro.
    assert gcc("one", "-O1", "-Wall", "a.c", "-o", "p", "-lm") == (0, "", 2) and printed("one") == "3\n"
    assert gcc("one", "-O0", "-Wall", "a.c", "-o", "p") == (0, "", 3)
    (tmp_path / "one/b.h").write_text("")
    assert gcc("one", "-O1", "-Wall", "-DB=5", "a.c", "-o", "p") == (0, "", 4) and printed("one") == "5\n"
    assert gcc("one", "-O1", "-Wall", "-D", "B=3", "a.c", "-o", "p") == (0, "", 4) and printed("one") == "3\n"
    # Errors, warnings every time, and what is not compiling.
    (tmp_path / "one/w.c").write_text("int main(void) { int x; return 0; }\n")
    for _ in range(2):
        status, said, kept = gcc("one", "-Wall", "w.c", "-o", "p")
        assert (status, kept) == (0, 4) and "unused variable" in said
    status, said, kept = gcc("one", "-Wall", "-Werror", "-c", "w.c", "-o", "w.o")
    assert (status, kept) == (1, 4) and "unused variable" in said and not (tmp_path / "one/w.o").exists()
    assert gcc("one", "none.c", "-o", "p")[0] == 1 and gcc("one", "--version")[0] == 0
