"""Where a route is divided: the way to the submit host, the scheduler, and what runs inside the job."""

from __future__ import annotations

from typing import NamedTuple

from outrider.batch.schedulers.base import Scheduler
from outrider.batch.schedulers.flux import FluxBatch
from outrider.batch.schedulers.lsf import LsfBatch
from outrider.batch.schedulers.pbs import PbsBatch
from outrider.batch.schedulers.process import Process
from outrider.batch.schedulers.slurm import SlurmBatch
from outrider.chain import Chain
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.options import Options

SCHEDULERS: dict[str, type[Scheduler]] = {
    "slurm": SlurmBatch,
    "flux": FluxBatch,
    "pbs": PbsBatch,
    "lsf": LsfBatch,
}


class Split(NamedTuple):
    """A route at its scheduler: the way to the submit host, the scheduler's hop, and what runs inside the job."""

    head: Chain
    hop: Hop | None
    scheduler: Scheduler
    tail: Chain


def split(chain: Chain) -> Split:
    """The last scheduler hop divides a route; without one, a process of its own at the route's end is the job."""
    for index in reversed(range(len(chain.hops))):
        hop = chain.hops[index]
        if hop.scheduler:
            if hop.name not in SCHEDULERS:
                raise ConfigError(
                    f"jobs cannot be submitted to {hop.name} yet",
                    hop=repr(hop),
                    hint=f"schedulers that can: {', '.join(SCHEDULERS)}; or leave the hop out",
                )
            return Split(
                Chain(*chain.hops[:index]), hop, SCHEDULERS[hop.name](), Chain(*chain.hops[index + 1 :])
            )
    return Split(Chain(*chain.hops), None, Process(), Chain())


def head_options(parts: Split, options: Options) -> Options:
    """Options for the far end at the submit host: what was set is for the job. Where that is the same place, all of them.

    The trust stays: who does not trust the job's far end reads what its submit host says as plain data, too. `max_answer` is
    one job's: here come the answers of many at once.
    """
    ours = options.changed({"max_answer": None})
    return ours if parts.hop is None else ours.changed({"python": "python3", "cwd": None, "env": {}})
