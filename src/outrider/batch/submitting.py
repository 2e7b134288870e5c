"""Submitting: a route is split at its scheduler, what stands after it becomes a script, and the calls files beside it."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.batch import noting
from outrider.batch.job import BatchJob
from outrider.batch.lot import Lot, Record
from outrider.batch.schedulers.base import Dependency, Submission
from outrider.batch.script import FOLDER, command_script, script
from outrider.batch.splitting import Split, split
from outrider.batch.spool import Call, packed
from outrider.batch.watching import Watcher, watcher_of
from outrider.chain import Chain
from outrider.command import Command
from outrider.errors import OutriderError, RouteError, TimedOut
from outrider.near import calls
from outrider.options import Options

HOME = "@OUTRIDER_SPOOL@"
"""Stands for the folder of all jobs until the submit host has written its path there."""
WARN = 60
"""Seconds before the time limit at which a function with a checkpoint is asked for it."""


@dataclass(frozen=True)
class How:
    """How jobs are submitted, whatever they do; see `Batch`."""

    name: str = ""
    tags: tuple[str, ...] = ()
    after: tuple[BatchJob, ...] = ()
    hold: bool = False
    warn: int = WARN


def submit_calls(
    chain: Chain,
    options: Options,
    how: How,
    elements: Sequence[Sequence[Call]],
    items: int = 0,
    chunk: int = 1,
    limit: int | None = None,
) -> BatchJob:
    """Submit calls, each element's one after the other; the job, or the whole of an array with `items`.

    Raises Unserializable for what cannot travel, and RouteError with the scheduler's words if it refuses the job.
    """
    function = elements[0][0][0]
    check(function)
    parts = split(chain)
    tail, settings = parts.tail.tail_settings()
    checkpoint = callable(getattr(function, "checkpoint", None))
    start, files = packed(chain, settings, options, elements, checkpoint)
    label = getattr(function, "__qualname__", None) or type(function).__name__
    record = Record("call", items, chunk, how.name, how.tags, time.time(), checkpoint, label=label)
    text = script(tail, parts.scheduler, options.python, checkpoint, bool(items))
    stored = {"start": start, **{f"call.{number}": body for number, body in enumerate(files)}}
    return _submit(chain, options, parts, how, record, text, stored, limit)


def submit_command(
    chain: Chain,
    options: Options,
    how: How,
    argv: Sequence[str],
    given: bytes,
    cwd: str | None,
    env: Mapping[str, str],
) -> BatchJob:
    """Submit a command. given: its stdin."""
    parts = split(chain)
    tail, settings = parts.tail.tail_settings()
    folder = cwd if cwd is not None else options.cwd if options.cwd is not None else settings.get("cwd")
    command = Command(argv, {**settings.get("env", {}), **options.env, **env}, folder)
    words = tuple(os.fsdecode(word) for word in command.argv)
    record = Record(
        "command", 0, 1, how.name, how.tags, time.time(), command=words, label=" ".join(words)[:200]
    )
    text, ahead = command_script(tail, command)
    return _submit(chain, options, parts, how, record, text, {"input": ahead + given}, None)


def check(function: Callable[..., Any]) -> None:
    """TypeError for what cannot be submitted: told before anything is opened for it."""
    calls.check_function(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function!r} is a generator: nobody is there to take its items; submit what returns a list"
        )


def _submit(
    chain: Chain,
    options: Options,
    parts: Split,
    how: How,
    record: Record,
    text: str,
    files: dict[str, bytes],
    limit: int | None,
) -> BatchJob:
    key = "outrider-" + os.urandom(8).hex()
    watcher = watcher_of(parts, options)
    lot = watcher.lot(key, options.answer_limit)
    lot.record = record
    indices = record.indices if record.items else ()
    what = Submission(
        hop=parts.hop,
        script=f"{FOLDER}/script",
        key=key,
        log=f"{FOLDER}/log",
        name=how.name,
        indices=indices,
        limit=limit,
        after=tuple(_dependency(watcher, job) for job in how.after),
        hold=how.hold,
        warn=how.warn if record.checkpoint else None,
    )
    if how.hold and parts.scheduler.hold(["1"]) is None:
        raise RouteError(
            f"jobs of {parts.scheduler.name} cannot be held", hop=chain.label(), hint="leave hold= out"
        )
    asked = {
        "key": key,
        "mark": FOLDER,
        "home": HOME,
        "files": {**files, "record": record.as_json()},
        "script": text,
        "argv": parts.scheduler.submit(what),
        "attempt": 0,
        "forget": [],
        "elements": " ".join(map(str, indices)),
    }
    noting.begins(chain, options, key, record)
    try:
        _sent(watcher, lot, parts, "store", asked, list(indices))
    except RouteError:
        noting.forgotten(key)
        raise
    noting.submitted(lot)
    return BatchJob(chain, options, key)


def submit_again(watcher: Watcher, lot: Lot, parts: Split, indices: Sequence[int]) -> None:
    """Submit elements of a job that are over once more, with what is stored of them; what they answered is forgotten."""
    assert lot.record is not None
    array = bool(lot.record.items)
    attempt = lot.attempts
    key = f"{lot.key}.{attempt}" if attempt else lot.key
    what = Submission(
        hop=parts.hop,
        script=f"{FOLDER}/script",
        key=key,
        log=f"{FOLDER}/log",
        name=lot.record.name,
        indices=tuple(indices) if array else (),
        warn=WARN if lot.record.checkpoint else None,
    )
    asked = {
        "key": lot.key,
        "mark": FOLDER,
        "home": HOME,
        "argv": parts.scheduler.submit(what),
        "attempt": attempt,
        "forget": list(indices),
        "elements": " ".join(map(str, indices)) if array else "",
    }
    with watcher.renewing(lot):
        lot.again(indices)
        noting.again(lot, list(indices))
        _sent(watcher, lot, parts, "submit", asked, list(indices) if array else [])
    noting.submitted(lot)


def _sent(
    watcher: Watcher, lot: Lot, parts: Split, function: str, asked: dict[str, Any], indices: list[int]
) -> None:
    """Let the submit host submit it. RouteError with the scheduler's words if that is refused."""
    hop = repr(parts.hop) if parts.hop else watcher.chain.label()
    try:
        told = watcher.ask(function, asked)
    except OSError as error:
        raise RouteError(
            f"the job cannot be stored at the submit host: {error}",
            hop=hop,
            hint="is there room in the home directory there, and may it be written? Nothing was submitted",
        ) from error
    ids = parts.scheduler.parse_submitted(told["stdout"]) if told["status"] == 0 else ()
    if told["status"] is None:
        raise TimedOut(
            f"{asked['argv'][0]}: {told['stderr']}; the job {lot.key} may be submitted yet",
            hop=hop,
            hint="do not submit it again: job(key) tells later whether it was",
        )
    if not ids:
        said = (told["stderr"] or told["stdout"]).strip()
        found = parts.hop.diagnose(said.replace("sbatch: ", "srun: "), told["status"]) if parts.hop else None
        raise RouteError(
            found.message.replace("srun: ", "sbatch: ") if found else f"the job was not accepted: {said}",
            hop=hop,
            hint=found.hint if found else None,
            argv=asked["argv"],
            stderr=said,
            returncode=told["status"],
        )
    lot.attempts = asked["attempt"] + 1
    lot.submitted(ids, indices)


def _dependency(watcher: Watcher, job: BatchJob) -> Dependency:
    if job._watcher.scheduler.name != watcher.scheduler.name or job._watcher.chain != watcher.chain:
        raise RouteError(
            f"{job!r} is of another scheduler, which this one knows nothing of",
            hop=watcher.chain.label(),
            hint="wait for it here, and submit what follows then",
        )
    if not job.id:
        raise OutriderError(f"{job!r} was never submitted: nothing can wait for it")
    ids = job._lot.ids(None if job.index is None else [job._element])
    return Dependency(tuple(ids), f"{HOME}/{job.key}")
