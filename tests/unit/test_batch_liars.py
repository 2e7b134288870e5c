"""A submit host that lies about jobs: whoever waits is told, and nothing is believed that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider import OutriderError, Route

# A far end's own part at the submit host is replaced by one that answers as it likes, as whoever owns that host can do.
LIES = {
    "news of nothing": "look = lambda asked: 17",
    "news without a key": "look = lambda asked: {'news': [['end']], 'said': None, 'now': 0}",
    "a clock that is none": "look = lambda asked: {'news': [], 'said': None, 'now': 'noon'}",
    "an end of strange kinds": (
        "look = lambda asked: {'news': [['end', k, 0, 7, 'x', 3, 4] for k in state.watched], 'said': None, 'now': 0}"
    ),
    "an unknown element": (
        "old = look\ndef look(asked):\n    told = old(asked)\n"
        "    told['news'] = [['begun', k, 10**9, -1, 0.0] for k in state.watched] + told['news']\n    return told"
    ),
    "no folders": "watch = lambda asked: []",
    "a record that is none": "watch = lambda asked: [[b'[]', [['', '1', 0.0]]] for _ in asked]",
    "words of a scheduler that are none": (
        "look = lambda asked: {'news': [], 'now': 0.0, 'said': {'status': [], 'stdout': 3, 'stderr': 4, 'about': [[]]}}"
    ),
    "an answer without end": "answers = lambda asked: [['answer.0.0', 1 << 60]]\npiece = lambda asked: bytes(1 << 20)",
}


def outcome(job: Any) -> Any:
    try:
        value = job.result(10)
        job.stdout()
        return value
    except OutriderError as error:
        return error


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
@pytest.mark.parametrize("trust", ["data", "pickle"])
def test_a_lie_is_told_to_who_waits(
    lie: str, trust: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outrider.far import loader

    monkeypatch.setenv("HOME", str(tmp_path))
    route = Route.parse("local").options(trust=trust, max_answer=1 << 22)
    job: Any = route.submit(abs, -1)
    honest = loader.source("spooling")
    from outrider.batch import watching

    watching.rest()
    true_source = loader.source
    monkeypatch.setattr(
        loader, "source", lambda name: f"{honest}\n{lie}\n" if name == "spooling" else true_source(name)
    )
    again = route.job(job.key)
    told = outcome(again)
    assert told == 1 or (isinstance(told, OutriderError) and (told.hint or again.state.final))
    monkeypatch.setattr(loader, "source", true_source)
    watching.rest()
