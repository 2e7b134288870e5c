"""No scheduler: a process that is nobody's child. Its id is `pid.start`, so that no other is taken for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler, Submission
from outrider.batch.states import Standing, State

# /proc/PID/stat: the program's name in brackets may hold anything, so fields are counted from behind it.
_START = """
start() { s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; set -- ${s##*) }; [ "$1" != Z ] && shift 19 && echo "$1"; }
is_alive() { [ -n "${1#*.}" ] && [ "$(start "${1%.*}")" = "${1#*.}" ]; }
"""

# What had ended before its start could be read has none in its id.
_ALIVE = _START + 'for job; do is_alive "$job" && echo "$job"; done; true'

GRACE = 30
"""Seconds that what is cancelled has to end by itself, as Slurm gives it."""

# Run in the job's folder, where the pid of an element stands; one that waits for its turn looks whether it still may start.
# Who does not heed TERM is killed by one who stays for it; of that job only the script is left, which notes the end.
# Words: the seconds until then, the jobs.
_CANCEL = (
    _START
    + """
left=$(($1 * 5))
shift
ended=
for job; do
    case $job in
        *_*) pid=$(cat "pid.${job#*_}" 2>/dev/null) && is_alive "$pid" && kill -TERM "${pid%.*}" && ended="$ended $pid" ;;
        *)
            is_alive "$job" || continue
            for pid in "$job" $(cat pid.* 2>/dev/null); do is_alive "$pid" && ended="$ended $pid"; done
            kill -TERM "-${job%.*}"
            ;;
    esac
done
[ -n "$ended" ] || exit 0
setsid sh -c "$KILL" sh "$left" $ended </dev/null >/dev/null 2>&1 &
"""
)

_KILL = (
    _START
    + """
kill_below() {
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        (kill_below "$child")
        kill -KILL "$child" 2>/dev/null
    done
}
left=$1
shift
while [ "$left" -gt 0 ]; do
    some=
    for pid; do is_alive "$pid" && some=1; done
    [ -n "$some" ] || exit 0
    left=$((left-1))
    sleep 0.2
done
for pid; do is_alive "$pid" && kill_below "${pid%.*}"; done
"""
)

# Words: the script, how many elements at once, the jobs to wait for (`pid.start` and folder, by turns), --, the elements.
_RUNNER = (
    _START
    + """
script=$1 limit=$2
shift 2
folder=${script%/*}
why=
while [ "$1" != -- ]; do
    while is_alive "$1"; do sleep 0.2; done
    set=0
    for end in "$2"/end.*; do
        case $end in *.part) continue ;; esac
        [ "$(cat "$end" 2>/dev/null)" = 0 ] && set=1 || { set=0; break; }
    done
    [ "$set" = 1 ] || why=dependency
    shift 2
done
shift
if [ -n "$why" ]; then
    for n in "${@:-0}"; do echo "$why" >"$folder/end.$n.part" && mv "$folder/end.$n.part" "$folder/end.$n"; done
    exit 1
fi
[ $# = 0 ] && exec sh "$script"
[ "$limit" = 0 ] && limit=$(nproc 2>/dev/null || echo 1)
printf '%s\\n' "$@" | xargs -n 1 -P "$limit" sh -c "$ELEMENT" sh "$script"
"""
)

# A shell round each element: what was killed itself cannot say so.
_ELEMENT = (
    _START
    + """
folder=${1%/*}
[ -e "$folder/cancelled.$2" ] || [ -e "$folder/cancelled" ] && exit 0
trap : TERM
OUTRIDER_INDEX=$2 sh "$1" &
echo "$!.$(start $!)" >"$folder/pid.$2"
wait $!
status=$?
while kill -0 $! 2>/dev/null; do wait $!; status=$?; done
[ -e "$folder/end.$2" ] || { echo "$status" >"$folder/end.$2.part" && mv "$folder/end.$2.part" "$folder/end.$2"; }
"""
)

# The pid comes through a file: in a command substitution the shell would wait for the job's end.
_SUBMIT = (
    _START
    + """
script=$1 log=$2
shift 2
setsid sh -c 'echo "$$" >"$1.pid.part" && mv "$1.pid.part" "$1.pid"; exec sh -c "$RUNNER" sh "$@"' sh "$script" "$@" \\
    </dev/null >>"$log" 2>&1 &
n=0
while [ ! -s "$script.pid" ] && [ "$n" -lt 500 ]; do sleep 0.01; n=$((n+1)); done
pid=$(cat "$script.pid") && rm "$script.pid" && echo "$pid.$(start "$pid")"
"""
)


class Process(Scheduler):
    """Jobs without a scheduler: each starts at once, in a session of its own, the elements of an array some at a time."""

    name: ClassVar[str] = "process"
    index: ClassVar[str] = "OUTRIDER_INDEX"
    requeue: ClassVar[str] = 'exec sh "$d/script"'

    def submit(self, what: Submission) -> Argv:
        waits = [word for job in what.after for ident in job.ids for word in (ident, job.folder)]
        limit = what.limit or 0  # as many as there are processors
        setting = ["env", f"RUNNER={_RUNNER}", f"ELEMENT={_ELEMENT}", "sh", "-c", _SUBMIT, "sh"]
        return [*setting, what.script, what.log, str(limit), *waits, "--", *map(str, what.indices)]

    def parse_submitted(self, text: str) -> tuple[str, ...]:
        found = re.fullmatch(r"\s*([0-9]+\.[0-9]*)\s*", text)
        return (found[1],) if found else ()

    def query(self, ids: Sequence[str]) -> Argv:
        return ["sh", "-c", _ALIVE, "sh", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        return {ident: Standing(State.RUNNING) for ident in text.split()}

    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        return status == 0

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["env", f"KILL={_KILL}", "sh", "-c", _CANCEL, "sh", str(GRACE), *ids]
