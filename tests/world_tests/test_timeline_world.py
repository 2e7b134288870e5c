"""Sweeps and timelines on a real Slurm, through a real sshd."""

from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree

from outrider import Route, grid, hops, ssh
from outrider.batch import Sweep, timeline
from outrider.batch.states import State


def test_a_sweep_and_its_timeline(slurm: Any, sshd: Any) -> None:
    route = Route(ssh("alpha", config=str(sshd.config)), hops.slurm(memory="50M")).options(show=False)
    points = grid(base=[2, 3], exp=[1, 2]) + grid(base=[0], exp=[-1])
    began = time.time()
    sweep = route.batch(name="powers").sweep(pow, points, limit=2)
    held = route.batch(name="later", hold=True).submit(abs, -1)
    try:
        rows = sweep.table(timeout=90)
        assert [row["value"] for row in rows] == [2, 4, 3, 9, None]
        assert rows[4]["error"].startswith("ZeroDivisionError")
        assert held.state is State.HELD
        made = timeline([Sweep(points, route.jobs(sweep.jobs.key)), held])
        lives = {life.name: life for life in made.lives}
        assert [lives[f"powers[{index}]"].state for index in range(5)] == ["completed"] * 4 + ["failed"]
        assert [phase for phase, _, _ in lives["later"].spans] == ["held"]
        for index in range(5):
            (queued, _, started), (running, _, ended) = lives[f"powers[{index}]"].spans
            assert (queued, running) == ("queued", "running")
            assert began - 1 <= started <= ended <= time.time()
        at_once = [event["args"]["running"] for event in made.chrome()["traceEvents"] if event["ph"] == "C"]
        assert 1 <= max(at_once) <= 2, "no more than `limit` ran at once"
        assert "1 held, 4 completed, 1 failed" in made.text()
        ElementTree.fromstring(made.svg())
    finally:
        held.cancel()
        held.wait(60)
        held.clean()
        sweep.jobs.clean()
