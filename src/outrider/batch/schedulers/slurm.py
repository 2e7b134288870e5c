"""Slurm: sbatch, scontrol, scancel. Needs no accounting; what the controller has forgotten (after MinJobAge) is gone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler
from outrider.batch.states import Standing, State
from outrider.hops.base import Hop
from outrider.hops.slurm import Slurm

_STATES = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,
    "REQUEUED": State.PENDING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "SUSPENDED": State.RUNNING,
    "STOPPED": State.RUNNING,
    "COMPLETED": State.COMPLETED,
    "CANCELLED": State.CANCELLED,
}


class SlurmBatch(Scheduler):
    """Jobs of sbatch, with the resources of the `slurm` hop."""

    name: ClassVar[str] = "slurm"

    def submit(self, hop: Hop | None, script: str, key: str, log: str) -> Argv:
        assert isinstance(hop, Slurm)
        return [
            "sbatch",
            "--parsable",
            "--export=ALL",
            "--no-requeue",
            f"--comment={key}",
            f"--output={log}",
            f"--job-name={hop.job_name or key}",
            f"--ntasks={hop.tasks}",
            *hop.resources(),
            *hop.extra,
            script,
        ]

    def parse_submitted(self, text: str) -> str:
        found = re.search(r"^(\d+)(?:;\S*)?$", text, re.MULTILINE)
        return found[1] if found else ""

    def query(self, ids: Sequence[str]) -> Argv:
        # Several ids would fail together for one that is forgotten.
        return ["sh", "-c", 'for job; do scontrol show job -o "$job" 2>&1; done; true', "sh", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        found = {}
        for line in text.splitlines():
            ident = re.match(r"JobId=(\d+)", line)
            state = re.search(r" JobState=(\w+)", line)
            reason = re.search(r" Reason=(\S+)", line)
            if ident and state:
                why = "" if reason is None or reason[1] == "None" else reason[1]
                found[ident[1]] = _standing(state[1], why)
        return found

    def knows_all(self, status: int, said: str) -> bool:
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith("JobId=")]
        return status == 0 and all("Invalid job id" in line for line in lines)

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["scancel", *ids]


def _standing(state: str, reason: str) -> Standing:
    if state == "PENDING" and reason.startswith("JobHeld"):
        return Standing(State.HELD, reason)
    told = _STATES.get(state, State.FAILED)
    return Standing(told, state + (f" ({reason})" if reason else "") if told.final else reason)
