"""Fuzz one target, or all in turn: `python -m tests.fuzz.run [TARGET ...] [--seconds N]`.

With atheris, where it can be installed (`pip install atheris`: it has wheels for a few Pythons only), inputs are led by
which lines they reach; without it, hypothesis makes them up. What was found to be worth keeping stays in --corpus.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def by_atheris(name: str, seconds: int, corpus: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["outrider"]):
        from tests.fuzz import targets
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.seeds(name)):
        (folder / f"seed-{number}").write_bytes(seed)
    words = [sys.argv[0], f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=4096"]
    atheris.Setup([*words, f"-artifact_prefix={folder}-", str(folder)], targets.TARGETS[name])
    atheris.Fuzz()


def by_hypothesis(name: str, seconds: int) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from tests.fuzz import targets

    until = time.monotonic() + seconds
    seeds = st.sampled_from(targets.seeds(name))
    mixed = st.tuples(seeds, st.binary(max_size=20), st.integers(0, 60)).map(
        lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :]
    )
    tried = 0

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.binary(max_size=1000) | seeds | mixed)
    def some(raw: bytes) -> None:
        nonlocal tried
        if time.monotonic() < until:
            tried += 1
            targets.TARGETS[name](raw)

    while time.monotonic() < until:
        some()
    print(f"{name}: {tried} inputs, nothing found")


def main() -> int:
    known = ["value", "answer", "report", "stream", "messages", "manifest", "terminal", "route"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*known, []], help="which; all if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "outrider-fuzz")
    parser.add_argument("--hypothesis", action="store_true", help="although atheris is there")
    given = parser.parse_args()
    if len(given.targets) != 1:  # each in a process of its own: libFuzzer ends its process
        rest = [
            "--seconds",
            str(given.seconds),
            "--corpus",
            str(given.corpus),
            *(["--hypothesis"] * given.hypothesis),
        ]
        results = [
            subprocess.run([sys.executable, "-m", "tests.fuzz.run", name, *rest])
            for name in given.targets or known
        ]
        return max(result.returncode for result in results)
    (name,) = given.targets
    try:
        import atheris  # noqa: F401
    except ImportError:
        given.hypothesis = True
    if given.hypothesis:
        by_hypothesis(name, given.seconds)
    else:
        by_atheris(name, given.seconds, given.corpus)
    return 0


if __name__ == "__main__":
    sys.exit(main())
