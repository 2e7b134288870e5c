"""The attack programs, compiled once and kept in the test cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.world.machine import cache, program

SOURCES = Path(__file__).parent / "programs"
# Static, so that it runs in any root; it also makes an attack start in a millisecond.
FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-infinite-recursion", "-static", "-pthread")


def attack_program(folder: Path) -> Path:
    """The one binary that holds all attacks, in a folder that every user can read."""
    goal = folder / "attack"
    shutil.copyfile(compiled(FLAGS, sorted(SOURCES.glob("*.c")), "attack"), goal)
    goal.chmod(0o755)
    return goal


def foreign_program(folder: Path) -> Path | None:
    """A program of the 32-bit kind, which comes to the kernel by another way; None where the compiler makes none."""
    flags = ("-m32", "-O1", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector")
    try:
        made = compiled(flags, [SOURCES / "foreign" / "foreign.c"], "foreign")
    except RuntimeError:
        return None
    goal = folder / "foreign"
    shutil.copyfile(made, goal)
    goal.chmod(0o755)
    return goal


def compiled(flags: tuple[str, ...], sources: list[Path], name: str) -> Path:
    compiler = program("gcc", "gcc")
    texts = [path.read_bytes() for path in (*sources, *sorted(SOURCES.glob("*.h")))]
    digest = hashlib.sha256(b"\0".join([" ".join(flags).encode(), *texts])).hexdigest()[:16]
    kept = cache() / "attacks" / f"{name}-{digest}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        done = subprocess.run(
            [compiler, *flags, "-o", str(part), *map(str, sources)], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        part.rename(kept)
    return kept


def all_calls() -> list[str]:
    """The system calls that `attack call` knows, by the names in its table."""
    text = (SOURCES / "system.c").read_text()
    table = text[text.index("calls[] = {") :]
    table = table[: table.index("\n};")]
    return [line.split('"')[1] for line in table.splitlines() if line.lstrip().startswith('{"')]
