"""LSF: bsub, bjobs, bhist, bkill, bstop, bresume, of IBM Spectrum LSF 9.1 and later.

Facts from IBM's pages on those commands and on termination reasons; no LSF has been at hand to try them.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from outrider.batch.schedulers.base import Argv, Scheduler, Submission, ranges
from outrider.batch.states import Standing, State
from outrider.errors import ConfigError
from outrider.hops.lsf import Lsf
from outrider.hops.sizes import seconds

# An array of LSF counts from 1. A word of its own for the command: bsub hands it to a shell, so none of the user's.
_ONE = 'sh "$OUTRIDER_SCRIPT"'
_ELEMENT = "sh -c 'OUTRIDER_INDEX=$((LSB_JOBINDEX - 1)) exec sh \"$OUTRIDER_SCRIPT\"'"
_AGAIN = 99  # the exit status that asks for another turn
# JSON came with 10.1, and so did the reasons.
_QUERY = """\
told=$(bjobs -a -json -o 'jobid jobindex stat exit_code exit_reason pend_reason' "$@" 2>/dev/null)
case $told in *RECORDS*) printf '%s\\n' "$told" ;;
*) exec bjobs -a -noheader -o "jobid jobindex stat exit_code delimiter='|'" "$@" ;; esac"""
# bstop would stop running jobs, too.
_HOLD = 's=0; for job; do case $(bjobs -noheader -o stat "$job") in PEND*) bstop "$job" || s=$?; esac; done; exit "$s"'
_FIND = """\
told=$(bjobs -a -Jd "$1" -noheader -o jobid 2>&1) || case $told in *"job found"*) exit 0 ;; *) exit 1 ;; esac
echo "$told"
"""
_STATES = {
    "PEND": State.PENDING,
    "PROV": State.PENDING,
    "WAIT": State.PENDING,
    "FWD_PEND": State.PENDING,
    "PSUSP": State.HELD,
    "RUN": State.RUNNING,
    "USUSP": State.RUNNING,
    "SSUSP": State.RUNNING,
    "UNKWN": State.RUNNING,  # no contact with its host, which may come back
    "ZOMBI": State.LOST,
    "DONE": State.COMPLETED,
    "EXIT": State.FAILED,
}
_CANCELLED = re.compile(r"TERM_(?:FORCE_)?(?:OWNER|ADMIN)\b|TERM_BUCKET_KILL\b")
_EVENT = re.compile(r"^[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d(?: \d{4})?: ", re.MULTILINE)
_GONE = r"Job <.+> is not found\.?|No (?:matching |unfinished )?job found\.?"


class _Job(NamedTuple):
    """What LSF tells of a job or an element."""

    id: str
    state: str
    code: str = ""
    reason: str = ""
    waits: str = ""


class LsfBatch(Scheduler):
    """Jobs of bsub, with the resources of the `lsf` hop. The key is their description."""

    name: ClassVar[str] = "lsf"
    index: ClassVar[str] = "OUTRIDER_INDEX"
    requeue: ClassVar[str] = f"exit {_AGAIN}"

    def submit(self, what: Submission) -> Argv:
        hop = what.hop
        assert isinstance(hop, Lsf)
        if hop.program != "bsub":
            raise ConfigError(
                "jobs are submitted with the bsub that is found there: program= is for what runs at once",
                hop=repr(hop),
                key="program",
                hint="put env(PATH=...) or login([...]) before the hop",
            )
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", what.name or hop.job_name or what.key)
        if what.indices:
            at_once = "" if what.limit is None else f"%{what.limit}"
            name = f"{name}[{ranges([index + 1 for index in what.indices])}]{at_once}"
        argv = [
            "env",
            f"OUTRIDER_SCRIPT={what.script}",
            f"{self.index}=0",
            "bsub",
            "-J",
            name,
            "-Jd",
            what.key,
            "-o",
            what.log,
        ]
        needed = [f"done({ident})" for one in what.after for ident in one.ids]
        # Who waits for one that has failed would wait for ever.
        argv += ["-w", " && ".join(needed), "-ti"] if needed else []
        argv += ["-H"] if what.hold else []
        if what.warn is None:
            argv += ["-rn"]
        else:
            ahead = max(1, -(-what.warn // 60))
            if hop.time is not None:  # both in minutes; one that is due at the start is of no use
                ahead = min(ahead, -(-seconds(hop.time, hop=self.name) // 60) - 1)
            argv += ["-r", "-Q", str(_AGAIN), *(["-wa", "USR1", "-wt", str(ahead)] if ahead else [])]
        return [*argv, *hop.resources(), *hop.extra, _ELEMENT if what.indices else _ONE]

    def parse_submitted(self, text: str) -> tuple[str, ...]:
        found = re.search(r"^Job <(\d+)> is submitted\b", text, re.MULTILINE) or re.fullmatch(
            r"(\d+)\s*", text
        )
        return (found[1],) if found else ()

    def element(self, ident: str, index: int) -> str:
        return f"{ident}[{index + 1}]"

    def elements(self, ids: tuple[str, ...], indices: Sequence[int]) -> dict[int, str]:
        return {index: self.element(ids[0], index) for index in indices} if ids else {}

    def query(self, ids: Sequence[str]) -> Argv:
        return ["sh", "-c", _QUERY, "sh", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        return {job.id: _standing(job) for job in _jobs(text) or ()}

    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        if _jobs(said) is None or not all(re.fullmatch(_GONE, line) for line in lines):
            return False
        return status == 0 or bool(lines)

    def history(self, ids: Sequence[str]) -> Argv | None:
        return ["sh", "-c", 'bhist -n 0 -l "$@"; true', "sh", *ids]

    def parse_history(self, text: str) -> dict[str, Standing]:
        found = {}
        for block in re.split(r"^(?=Job <\d+(?:\[\d+\])?>, )", text, flags=re.MULTILINE):
            ident = re.match(r"Job <(\d+(?:\[\d+\])?)>", block)
            # Lines are cut at a width, anywhere; what is cut goes on indented. Only the first event has the user's words.
            events = [re.sub(r"\s+", "", event) for event in _EVENT.split(block)[2:]]
            ends = [event for event in events if re.match(r"Donesuccessfully|Exited|Completed<", event)]
            if ident and ends:
                found[ident[1]] = _ending(ends)
        return found

    def find(self, key: str) -> Argv | None:
        return ["sh", "-c", _FIND, "sh", key]

    def parse_found(self, text: str, key: str) -> tuple[str, ...]:
        found = re.findall(r"^(\d+)(?:\[\d+\])?\s*$", text, re.MULTILINE)
        return tuple(found[:1])

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["bkill", *ids]

    def hold(self, ids: Sequence[str]) -> Argv | None:
        return ["sh", "-c", _HOLD, "sh", *ids]

    def release(self, ids: Sequence[str]) -> Argv | None:
        return ["bresume", *ids]


def _jobs(text: str) -> list[_Job] | None:
    """The jobs that bjobs tells of, as JSON or as lines; None if it is neither."""
    if text.lstrip().startswith("{"):
        try:
            records = json.loads(text, strict=False)["RECORDS"]
            return [_record(record) for record in records if "JOBID" in record]
        except (ValueError, LookupError, TypeError):
            return None
    return list(_lines(text))


def _record(record: dict[str, object]) -> _Job:
    def word(name: str) -> str:
        return str(record.get(name) or "").strip()

    ident, index = word("JOBID"), word("JOBINDEX")
    return _Job(_id(ident, index), word("STAT"), word("EXIT_CODE"), word("EXIT_REASON"), word("PEND_REASON"))


def _lines(text: str) -> Iterator[_Job]:
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 4 and re.match(r"\d", words[0]):
            yield _Job(_id(words[0], words[1]), words[2], words[3])


def _id(ident: str, index: str) -> str:
    return f"{ident}[{index}]" if index.isdecimal() and int(index) and "[" not in ident else ident


def _standing(job: _Job) -> Standing:
    state = _STATES.get(job.state, State.PENDING)
    if state is State.FAILED:
        return _failed(job.code, job.reason)
    if state is State.PENDING and re.search(r"never (?:be )?satisfied", job.waits):
        return Standing(State.FAILED, job.waits)
    told = job.waits if state is State.PENDING else ""
    plain = job.state in ("PEND", "RUN")
    return Standing(state, told or ("" if plain else job.state))


def _failed(code: str, reason: str) -> Standing:
    if _CANCELLED.match(reason):
        return Standing(State.CANCELLED, reason)
    number = int(code) if code.isdecimal() else 0
    try:
        told = f"exit status {number} ({signal.Signals(number - 128).name})"
    except ValueError:
        told = f"exit status {number}" if number else "EXIT"
    return Standing(State.FAILED, f"{reason} ({told})" if reason.strip("-") else told)


def _ending(events: Sequence[str]) -> Standing:
    if events[-1].startswith("Donesuccessfully"):
        return Standing(State.COMPLETED, "DONE")
    told = [found for event in events for found in re.finditer(r"exitcode(\d+)|bysignal(\d+)", event)]
    reasons = re.findall(r"TERM_[A-Z_]+", events[-1])
    number = "" if not told else told[-1][1] or str(128 + int(told[-1][2]))
    return _failed(number, reasons[0] if reasons else "")
