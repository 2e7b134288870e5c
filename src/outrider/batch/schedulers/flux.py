"""Flux: flux submit, jobs, cancel, job urgency. It has no arrays: an element is a job of its own, with a number.

Facts from flux-submit(1), flux-jobs(1) and src/cmd/flux-jobs.py of flux-core, tried with 0.88; `--json` came with 0.50.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler, Submission, ranges
from outrider.batch.states import Standing, State
from outrider.errors import ConfigError
from outrider.hops.flux import Flux
from outrider.hops.sizes import seconds

# Not more than $1 at once: each job waits for the one that many places before it. What comes too late is undone.
_LANES = """\
limit=$1 indices=$2; shift 2; n=0 all=
for index in $indices; do
  lane=$((n % limit)); eval "before=\\${lane_$lane:-}"
  id=$(flux submit --cc="$index" ${before:+--dependency=afterany:$before} "$@") || {
    s=$?; [ -z "$all" ] || flux cancel $all; exit "$s"; }
  echo "$id"; all="$all $id"; eval "lane_$lane=\\$id"; n=$((n + 1))
done"""
_TEXT = "{id.f58}|{state}|{result}|{urgency}|{returncode}|{exception.type}|{exception.note}"
# argparse ends with 2 for an option that it does not know.
_QUERY = f'flux jobs --json "$@"; s=$?; [ "$s" = 2 ] || exit "$s"; exec flux jobs -n -o "{_TEXT}" "$@"'
_EACH = 'level=$1 s=0; shift; for job; do flux job urgency "$job" "$level" || s=$?; done; exit "$s"'
_PENDING = ("DEPEND", "PRIORITY", "SCHED")


class FluxBatch(Scheduler):
    """Jobs of flux submit, with the resources of the `flux` hop. Their names end in the key."""

    name: ClassVar[str] = "flux"
    index: ClassVar[str] = "FLUX_JOB_CC"

    def submit(self, what: Submission) -> Argv:
        hop = what.hop
        assert isinstance(hop, Flux)
        for key, usual, instead in (("uri", None, "FLUX_URI"), ("program", "flux", "PATH")):
            if getattr(hop, key) != usual:
                raise ConfigError(
                    f"jobs are submitted with the flux that is found there: {key}= is for what runs at once",
                    hop=repr(hop),
                    key=key,
                    hint=f"put env({instead}=...) before the hop",
                )
        argv = [*hop.resources(), f"--job-name={_name(what)}", f"--output={what.log}", "-ooutput.mode=append"]
        argv += [f"--dependency=afterok:{ident}" for one in what.after for ident in one.ids]
        argv += ["--urgency=hold"] if what.hold else []
        if what.warn is not None:  # a signal that is due at the start comes before the script is ready for it
            most = what.warn if hop.time is None else min(what.warn, seconds(hop.time, hop=self.name) // 2)
            argv += [f"--signal=SIGUSR1@{most}s"] if most else []
        argv += [*hop.extra, "--", *hop.once(), "sh", what.script]
        if not what.indices:  # the job may be submitted from within an element of another
            return ["flux", "submit", f"--env=-{self.index}", *argv]
        if what.limit is None or what.limit >= len(what.indices):
            return ["flux", "submit", f"--cc={ranges(what.indices)}", *argv]
        order = " ".join(str(index) for index in sorted(what.indices))
        return ["sh", "-c", _LANES, "sh", str(what.limit), order, *argv]

    def parse_submitted(self, text: str) -> tuple[str, ...]:
        return tuple(
            _plain(found)
            for found in re.findall(r"^(?:ƒ\w+|f[1-9A-HJ-NP-Za-km-z]+|\d+)$", text, re.MULTILINE)
        )

    def elements(self, ids: tuple[str, ...], indices: Sequence[int]) -> dict[int, str]:
        return dict(zip(sorted(indices), ids, strict=False))

    def element(self, ident: str, index: int) -> str:
        return ident

    def query(self, ids: Sequence[str]) -> Argv:
        return ["sh", "-c", _QUERY, "sh", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        found = {}
        for job in _jobs(text):
            if isinstance(job.get("jobid"), str):
                found[_plain(job["jobid"])] = _standing(job)
        return found

    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        if said.lstrip().startswith("{") and not _jobs(said):
            return False
        # 1: none of the jobs is known. A question that failed in another way says something else.
        lines = [line for line in complaint.splitlines() if line.startswith(("JobID ", "rpc: ", "flux"))]
        unknown = [line for line in lines if re.fullmatch(r"JobID \S+ unknown", line)]
        return len(unknown) == len(lines) and (status == 0 or (status == 1 and bool(unknown)))

    def find(self, key: str) -> Argv | None:
        return ["flux", "jobs", "-a", "--count=0", "-n", "-o", "{id.f58} {name}"]

    def parse_found(self, text: str, key: str) -> tuple[str, ...]:
        found = re.findall(rf"^(\S+) (?:.*\.)?{re.escape(key)}(?::(\d+))?$", text, re.MULTILINE)
        return tuple(_plain(ident) for ident, _ in sorted(found, key=lambda pair: int(pair[1] or 0)))

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["flux", "cancel", *ids]

    def hold(self, ids: Sequence[str]) -> Argv | None:
        return ["sh", "-c", _EACH, "sh", "hold", *ids]

    def release(self, ids: Sequence[str]) -> Argv | None:
        return ["sh", "-c", _EACH, "sh", "default", *ids]


def _name(what: Submission) -> str:
    # With --cc Flux fills in what stands in braces, so that none of the user's may.
    assert isinstance(what.hop, Flux)
    name = re.sub(r"[{}\s]", "_", what.name or what.hop.job_name or "")
    return (f"{name}." if name else "") + what.key + (":{cc}" if what.indices else "")


def _plain(ident: str) -> str:
    """The same id without the letter that not every terminal has: Flux takes both."""
    return "f" + ident[1:] if ident.startswith("ƒ") else ident


def _jobs(text: str) -> list[dict[str, Any]]:
    """The jobs as flux tells them: several, a single one, or lines of text from a Flux without JSON."""
    try:
        read = json.loads(text)
    except ValueError:
        return [
            {
                "jobid": ident,
                "status": result or state,
                "urgency": int(urgency) if urgency.isdigit() else 16,
                "returncode": code,
                "exception": {"type": kind, "note": note},
            }
            for ident, state, result, urgency, code, kind, note in (
                line.split("|", 6) for line in text.splitlines() if line.count("|") >= 6
            )
        ]
    told = read.get("jobs", [read]) if isinstance(read, dict) else []
    return [job for job in told if isinstance(job, dict)] if isinstance(told, list) else []


def _mapping(job: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = job.get(name)
    return found if isinstance(found, Mapping) else {}


def _standing(job: Mapping[str, Any]) -> Standing:
    status = str(job.get("status", ""))
    exception = _mapping(job, "exception")
    note = str(exception.get("note") or "")
    if status in _PENDING:
        if job.get("urgency") == 0:
            return Standing(State.HELD, "held")
        waits = ", ".join(str(one) for one in job.get("dependencies") or ())
        reason = _mapping(_mapping(job, "annotations"), "sched").get("reason_pending")
        return Standing(State.PENDING, waits or str(reason or ""))
    if status in ("RUN", "CLEANUP"):
        return Standing(State.RUNNING)
    if status == "COMPLETED":
        return Standing(State.COMPLETED, status)
    if status == "CANCELED":
        return Standing(State.CANCELLED, status + (f" ({note})" if note else ""))
    kind = str(exception.get("type") or "")
    why = f"{kind}: {note}" if kind and note else kind or note or f"exit status {job.get('returncode', '?')}"
    if status in ("FAILED", "TIMEOUT"):
        return Standing(State.FAILED, f"{status} ({why})")
    return Standing(State.PENDING, status)  # a state of a Flux to come: its job is there
