"""The peers' virtual environment, and the packages that a far end needs for them: cached outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers.txt"
FAR_PACKAGES = ("numpy", "plumbum", "rpyc")


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or f"{os.environ['HOME']}/.cache"
    folder = Path(os.environ.get("OUTRIDER_BENCH_CACHE") or f"{home}/outrider-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def peers(folder: Path) -> Path:
    """The Python that has the peers."""
    words = f"{sys.version_info[:2]} {REQUIREMENTS.read_text()}"
    venv = folder / f"peers-{hashlib.sha256(words.encode()).hexdigest()[:12]}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "made").exists():
            run([sys.executable, "-m", "venv", "--clear", str(venv)])
            run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)])
            (venv / "made").touch()
    return venv / "bin" / "python"


def far_packages(folder: Path, python: Path, version: str) -> Path:
    """A folder of numpy and rpyc for the Python of that version ("3.11") that the hosts have."""
    made = folder / f"far-{version}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "made").exists():
            how = ["--quiet", "--only-binary=:all:", "--python-version", version, "--target", str(made)]
            run([str(python), "-m", "pip", "install", "--upgrade", *how, *FAR_PACKAGES])
            (made / "made").touch()
    return made


def run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdout=sys.stderr)
