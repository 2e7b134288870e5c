"""Where a pool's workers stand: beside the first far end, or, in a Slurm job of several tasks, as steps of their own."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from outrider.chain import Chain
from outrider.hops.slurm import Slurm
from outrider.session import Session


class Places(NamedTuple):
    """head: the way to the first far end. step: what starts a worker from there, if not its command alone. tail: then."""

    head: Chain
    step: Slurm | None
    tail: Chain

    def way(self, number: int, nodes: int) -> Chain:
        """From the first far end to a worker; number: which one it is. nodes: so many the job has."""
        if self.step is None:
            return self.tail
        return Chain(self.step.replace(nodes=1, extra=(f"--relative={number % nodes}",)), *self.tail.hops)


def places(chain: Chain) -> Places:
    """A job with `tasks=` has room for a worker in each of them, on whichever node and processors that is."""
    for index in reversed(range(len(chain.hops))):
        hop = chain.hops[index]
        if isinstance(hop, Slurm) and hop.overlap and (hop.tasks > 1 or (hop.nodes or 1) > 1):
            step = Slurm(cpus=hop.cpus, program=hop.program)
            return Places(chain.prefix(index + 1), step, Chain(*chain.hops[index + 1 :]))
        if hop.scheduler:
            break
    return Places(chain, None, chain.prefix(0))


def nodes_of(head: Session) -> int:
    """How many nodes the job has in which this far end is."""
    found = head.call(os.getenv, "SLURM_JOB_NUM_NODES")
    with suppress(ValueError, TypeError):
        return max(1, int(found or 1))
    return 1
