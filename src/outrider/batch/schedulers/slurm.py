"""Slurm: sbatch, squeue, scancel. Needs no accounting; what the controller has forgotten (after MinJobAge) is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler, Submission, ranges
from outrider.batch.states import Standing, State
from outrider.hops.sizes import seconds
from outrider.hops.slurm import Slurm

_STATES = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,
    "REQUEUED": State.PENDING,
    "REQUEUE_FED": State.PENDING,
    "REQUEUE_HOLD": State.HELD,
    "SPECIAL_EXIT": State.HELD,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "RESIZING": State.RUNNING,
    "SUSPENDED": State.RUNNING,
    "STOPPED": State.RUNNING,
    "COMPLETED": State.COMPLETED,
    "CANCELLED": State.CANCELLED,
}
_HELD = ("JobHeld", "job_held")
_MANY = 1000
"""Ids of which more are not named in a query: all of one's own jobs are asked for."""


class SlurmBatch(Scheduler):
    """Jobs of sbatch, with the resources of the `slurm` hop."""

    name: ClassVar[str] = "slurm"
    index: ClassVar[str] = "SLURM_ARRAY_TASK_ID"
    requeue: ClassVar[str] = 'scontrol requeue "$SLURM_JOB_ID"'

    def submit(self, what: Submission) -> Argv:
        hop = what.hop
        assert isinstance(hop, Slurm)
        return [
            "sbatch",
            "--parsable",
            "--export=ALL",
            f"--comment={what.key}",
            f"--output={what.log}",
            "--open-mode=append",
            f"--job-name={what.name or hop.job_name or what.key}",
            f"--ntasks={hop.tasks}",
            *hop.resources(),
            *_words(what),
            *hop.extra,
            what.script,
        ]

    def parse_submitted(self, text: str) -> tuple[str, ...]:
        # Of an id that cannot be, squeue says the same as of one that it has forgotten: of all that are asked for with it.
        found = re.search(r"^([1-9][0-9]{0,9})(?:;\S*)?$", text, re.MULTILINE)
        return (found[1],) if found else ()

    def query(self, ids: Sequence[str]) -> Argv:
        whose = ["--me"] if len(ids) > _MANY else ["--jobs", ",".join(ids)]
        return ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", *whose]

    def parse_query(self, text: str) -> dict[str, Standing]:
        lines = (line.strip().split("|") for line in text.splitlines())
        return {words[0]: _standing(words[1], words[2]) for words in lines if len(words) == 3 and words[1]}

    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        # One id that is forgotten is an error, of several those that are known are told.
        readable = all(line.count("|") >= 2 for line in said.splitlines() if line.strip())
        return (status == 0 and readable) or "Invalid job id" in complaint

    def history(self, ids: Sequence[str]) -> Argv:
        wanted = ",".join(ids)
        return [
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--format=JobID,State",
            f"--jobs={wanted}",
        ]

    def parse_history(self, text: str) -> dict[str, Standing]:
        lines = (line.strip().split("|") for line in text.splitlines())
        # "CANCELLED by 1000"
        return {
            words[0]: _standing(words[1].split()[0], "") for words in lines if len(words) == 2 and words[1]
        }

    def find(self, key: str) -> Argv:
        return ["squeue", "--noheader", "--states=all", "--me", "--format=%F|%k"]

    def parse_found(self, text: str, key: str) -> tuple[str, ...]:
        for line in text.splitlines():
            ident, _, comment = line.strip().partition("|")
            if comment == key and ident.isdigit():
                return (ident,)
        return ()

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["scancel", *ids]

    def hold(self, ids: Sequence[str]) -> Argv:
        return ["scontrol", "hold", ",".join(ids)]

    def release(self, ids: Sequence[str]) -> Argv:
        return ["scontrol", "release", ",".join(ids)]


def _words(what: Submission) -> Iterator[str]:
    """How it is to be submitted, apart from its resources."""
    if what.indices:
        limit = "" if what.limit is None else f"%{what.limit}"
        yield f"--array={ranges(what.indices)}{limit}"
    if what.after:
        yield "--dependency=" + ",".join(f"afterok:{ident}" for job in what.after for ident in job.ids)
        yield "--kill-on-invalid-dep=yes"
    if what.hold:
        yield "--hold"
    if what.warn is None:
        yield "--no-requeue"
    else:  # a signal that is due at the start comes before the script is ready for it
        time = what.hop.time if isinstance(what.hop, Slurm) else None
        most = what.warn if time is None else min(what.warn, seconds(time, hop="slurm") // 2)
        yield from ("--requeue", f"--signal=B:USR1@{max(1, most)}")


def _standing(state: str, reason: str) -> Standing:
    why = "" if reason == "None" else reason
    if state == "PENDING" and why.startswith(_HELD):
        return Standing(State.HELD, why)
    told = _STATES.get(state, State.FAILED)
    return Standing(told, state + (f" ({why})" if why else "") if told.final else why)
