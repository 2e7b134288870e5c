"""Submitting: a route is split at its scheduler, what stands after it becomes a script, and the call a file beside it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outrider import calls
from outrider.batch.job import BatchJob
from outrider.batch.reaching import far_answer
from outrider.batch.script import FOLDER, script
from outrider.batch.splitting import head_options, split
from outrider.batch.spool import packed_call
from outrider.chain import Chain
from outrider.errors import RouteError
from outrider.options import Options
from outrider.session import Session


def submit(
    chain: Chain, options: Options, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> BatchJob:
    """Submit one call as a job of the route's scheduler, and return while it waits or runs.

    Raises Unserializable for what cannot travel, and RouteError with the scheduler's words if it refuses the job.
    """
    calls.check_function(fn)
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"{fn!r} is a generator: nobody is there to take its items; submit what returns a list"
        )
    parts = split(chain)
    tail, settings = parts.tail.tail_settings()
    key = "outrider-" + os.urandom(8).hex()
    argv = parts.scheduler.submit(parts.hop, f"{FOLDER}/script", key, f"{FOLDER}/log")
    asked = {
        "key": key,
        "mark": FOLDER,
        "start": packed_call(chain, settings, options, (fn, tuple(args), dict(kwargs))),
        "script": script(tail, options.python),
        "argv": argv,
    }
    with Session(parts.head, head_options(parts, options)) as far:
        told = far_answer(far, "store", asked, 120.0)
    ident = parts.scheduler.parse_submitted(told["stdout"]) if told["status"] == 0 else ""
    if not ident:
        said = (told["stderr"] or told["stdout"]).strip()
        found = parts.hop.diagnose(said.replace("sbatch: ", "srun: "), told["status"]) if parts.hop else None
        raise RouteError(
            found.message if found else f"the job was not accepted: {said}",
            hop=repr(parts.hop) if parts.hop else "local",
            hint=found.hint if found else None,
            argv=argv,
            stderr=said,
            returncode=told["status"],
        )
    return BatchJob(chain, options, key)
