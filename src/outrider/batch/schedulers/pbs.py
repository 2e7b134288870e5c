"""PBS: qsub, qstat, qdel, qhold, qrls, of OpenPBS and PBS Professional; Torque where it has the same words.

Facts from OpenPBS (qsub(1B), qstat(1B), src/cmds/qstat.c, src/include/job.h), tried with its version 23.06. Without
job history the server forgets a job as it ends; with it, `qstat -x` tells more. Its JSON is not asked for: of several
ids it tells the first only.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler, Submission
from outrider.batch.states import Standing, State
from outrider.hops.pbs import Pbs

# Elements as jobs of their own: what -J cannot say. Each waits for the one $1 places before it, if that still is there.
_LANES = """\
limit=$1 indices=$2 key=$3 after=$4; shift 4; n=0 all=
put() { depend=$after${after:+${2:+,}}${2:+afterany:$2}
  OUTRIDER_KEY=$key PBS_ARRAY_INDEX=$1; export OUTRIDER_KEY PBS_ARRAY_INDEX; shift 2
  qsub -v "OUTRIDER_KEY=$key,PBS_ARRAY_INDEX=$PBS_ARRAY_INDEX" ${depend:+-W "depend=$depend"} "$@"; }
for index in $indices; do
  lane=$((n % limit)); eval "before=\\${lane_$lane:-}"
  id=$( [ -n "$before" ] && put "$index" "$before" "$@" 2>/dev/null || put "$index" '' "$@") || {
    s=$?; [ -z "$all" ] || qdel $all; exit "$s"; }
  echo "$id"; all="$all $id"; eval "lane_$lane=\\$id"; n=$((n + 1))
done"""
_FIND = """\
set -f; me=$(id -un); ids=$(qselect -x -u "$me" 2>/dev/null || qselect -u "$me") || exit
[ -n "$ids" ] || exit 0
# What has ended since may be asked for in vain.
qstat -x -f $ids 2>/dev/null | grep '^Job Id: ' >/dev/null && qstat -x -f $ids || qstat -f $ids; true"""
_UNKNOWN = r"qstat: (?:Unknown Job Id(?: Error)? \S+|\S+ Job has finished.*)"
_LIMITS = {
    -24: "more processors than asked for",
    -25: "more processors than asked for",
    -26: "out of memory (vmem)",
    -27: "out of memory",
    -28: "out of processor time",
    -29: "time limit",
}  # JOB_EXEC_KILL_* in job.h
_TORQUE = {
    -10: "out of memory",
    -11: "time limit",
    -12: "out of processor time",
}  # JOB_EXEC_OVERLIMIT_* there


class PbsBatch(Scheduler):
    """Jobs of qsub, with the resources of the `pbs` hop. The key is in each job's variables."""

    name: ClassVar[str] = "pbs"
    index: ClassVar[str] = "PBS_ARRAY_INDEX"

    def submit(self, what: Submission) -> Argv:
        hop = what.hop
        assert isinstance(hop, Pbs)
        order = sorted(what.indices)
        whole = len(order) > 1 and not hop.torque and order == list(range(order[0], order[-1] + 1))
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", what.name or hop.job_name or what.key)
        name = (name if name[0].isalpha() else f"j{name}")[: 15 if hop.torque else 230]
        # No directives in the script, of which a part is the user's words; and not by a login shell, which may be any.
        argv = ["-V", "-C", "", "-S", "/bin/sh", "-N", name, "-j", "oe", "-o", what.log]
        argv += ["-h"] if what.hold else []
        # PBS has no signal ahead of the time limit; at it, and where it preempts, SIGTERM comes some seconds before the end.
        # It takes no arrays that may not be run again.
        argv += ["-r", "n" if what.warn is None and not whole else "y"]
        argv += [*hop.resources(), *hop.extra, what.script]
        ids = [ident for one in what.after for ident in one.ids]
        after = ":".join(["afterok", *ids]) if ids else ""
        if order and not whole:
            words = " ".join(str(index) for index in order)
            return ["sh", "-c", _LANES, "sh", str(what.limit or len(order)), words, what.key, after, *argv]
        # The job may be submitted from within another, whose variables -V takes from the environment, before those of -v.
        own = [f"OUTRIDER_KEY={what.key}", *([] if order else [f"{self.index}=0"])]
        start = ["env", *own, "qsub", "-v", ",".join(own)]
        start += ["-W", f"depend={after}"] if after else []
        if order:
            at_once = "" if what.limit is None else f"%{what.limit}"
            start += ["-J", f"{order[0]}-{order[-1]}{at_once}"]
        return [*start, *argv]

    def parse_submitted(self, text: str) -> tuple[str, ...]:
        return tuple(re.findall(r"^\d+(?:\[\])?(?:\.[\w.-]+)?$", text, re.MULTILINE))

    def elements(self, ids: tuple[str, ...], indices: Sequence[int]) -> dict[int, str]:
        if len(ids) == 1 and "[]" in ids[0]:
            return {index: self.element(ids[0], index) for index in indices}
        return dict(zip(sorted(indices), ids, strict=False))

    def element(self, ident: str, index: int) -> str:
        return ident.replace("[]", f"[{index}]")

    def query(self, ids: Sequence[str]) -> Argv:
        return ["qstat", "-t", "-f", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        return {ident: _standing(ident, job) for ident, job in _jobs(text)}

    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        # Exit codes are the last error's, cut to a byte: 153 unknown (15001), 35 in the history only (15139).
        lines = [line for line in complaint.splitlines() if line.startswith("qstat: ")]
        return status in (0, 35, 153) and all(re.fullmatch(_UNKNOWN, line) for line in lines)

    def history(self, ids: Sequence[str]) -> Argv | None:
        return ["sh", "-c", 'qstat -x -t -f "$@"; true', "sh", *ids]

    def parse_history(self, text: str) -> dict[str, Standing]:
        return self.parse_query(text)

    def find(self, key: str) -> Argv | None:
        return ["sh", "-c", _FIND]

    def parse_found(self, text: str, key: str) -> tuple[str, ...]:
        found = []
        for ident, job in _jobs(text):
            known = dict(
                pair.split("=", 1) for pair in job.get("Variable_List", "").split(",") if "=" in pair
            )
            if known.get("OUTRIDER_KEY") == key and not re.search(r"\[\d+\]", ident):
                index = known.get("PBS_ARRAY_INDEX", "")
                found.append((int(index) if index.isdecimal() else 0, ident))
        return tuple(ident for _, ident in sorted(found))

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["qdel", *ids]

    def hold(self, ids: Sequence[str]) -> Argv | None:
        return ["qhold", "-h", "u", *ids]

    def release(self, ids: Sequence[str]) -> Argv | None:
        return ["qrls", "-h", "u", *ids]


def _jobs(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each id of what `qstat -f` told, and its attributes."""
    # A line that begins with a tab continues the one before. The first of an attribute counts: variables come late,
    # and what is in them may look like one.
    for block in re.split(r"^Job Id: ", text.replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        ident, _, rest = block.partition("\n")
        job: dict[str, str] = {}
        for name, value in re.findall(r"^ {4}([\w.]+) = (.*)$", rest, re.MULTILINE):
            job.setdefault(name, value)
        if "job_state" in job:
            yield ident.strip(), job


def _standing(ident: str, job: Mapping[str, str]) -> Standing:
    letter = job["job_state"]
    comment = job.get("comment", "")
    if letter == "H" and set(job.get("Hold_Types", "")) & set("uop"):
        return Standing(State.HELD, comment)
    if letter in ("F", "X", "C"):
        return _ended(ident, job, comment)
    if letter in ("R", "E", "S", "U", "B"):
        return Standing(State.RUNNING, comment if letter in ("S", "U") else "")
    return Standing(
        State.PENDING, job.get("depend", "") if "[" in ident else comment or job.get("depend", "")
    )


def _ended(ident: str, job: Mapping[str, str], comment: str) -> Standing:
    code, substate = job.get("Exit_status", job.get("exit_status", "")), job.get("substate", "")
    status = int(code) if re.fullmatch(r"-?\d+", code) else None
    if "[" in ident and comment.startswith("Subjob "):  # what else is told of it is its array's
        kind = {"Subjob failed": State.FAILED, "Subjob terminated": State.CANCELLED}
        return Standing(kind.get(comment, State.COMPLETED), comment)
    limits = _TORQUE if job["job_state"] == "C" else _LIMITS
    if status in limits:
        return Standing(State.FAILED, limits[status])
    if substate == "91" or (status is None and "Job deleted" in comment):
        return Standing(State.CANCELLED, comment or "deleted")
    if status == 0:
        return Standing(State.COMPLETED, comment)
    if status is None:
        return Standing(State.FAILED, "a job that it waited for failed" if job.get("depend") else comment)
    number = status - 256 if status > 256 else status - 128 if 128 < status < 160 else 0
    try:
        told = f"exit status {status} ({signal.Signals(number).name})"
    except ValueError:
        told = f"exit status {status}"
    return Standing(State.FAILED, f"{told}; {comment}" if comment else told)
