"""No scheduler: a process that is nobody's child. Its id is `pid.start`, so that no other is taken for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from outrider.batch.schedulers.base import Argv, Scheduler
from outrider.batch.states import Standing, State
from outrider.hops.base import Hop

# /proc/PID/stat: the program's name in brackets may hold anything, so fields are counted from behind it.
_START = (
    'start() { s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; set -- ${s##*) }; '
    '[ "$1" != Z ] && shift 19 && echo "$1"; }'
)
_ALIVE = _START + '; for job; do [ "$(start "${job%.*}")" = "${job#*.}" ] && echo "$job"; done; true'
_CANCEL = (
    _START + '; for job; do [ "$(start "${job%.*}")" = "${job#*.}" ] && kill -TERM "${job%.*}"; done; true'
)


class Process(Scheduler):
    """Jobs without a scheduler: each starts at once, in a session of its own."""

    name: ClassVar[str] = "process"

    def submit(self, hop: Hop | None, script: str, key: str, log: str) -> Argv:
        # The pid comes through a file: in a command substitution the shell would wait for the job's end.
        start = (
            f'{_START}; setsid sh -c \'echo "$$" >"$1.pid.part" && mv "$1.pid.part" "$1.pid"; exec sh "$1"\' sh "$1" '
            '</dev/null >"$2" 2>&1 & '
            'n=0; while [ ! -s "$1.pid" ] && [ "$n" -lt 500 ]; do sleep 0.01; n=$((n+1)); done; '
            'pid=$(cat "$1.pid") && echo "$pid.$(start "$pid")"'
        )
        return ["sh", "-c", start, "sh", script, log]

    def parse_submitted(self, text: str) -> str:
        return text.strip()

    def query(self, ids: Sequence[str]) -> Argv:
        return ["sh", "-c", _ALIVE, "sh", *ids]

    def parse_query(self, text: str) -> dict[str, Standing]:
        return {ident: Standing(State.RUNNING) for ident in text.split()}

    def knows_all(self, status: int, said: str) -> bool:
        return status == 0

    def cancel(self, ids: Sequence[str]) -> Argv:
        return ["sh", "-c", _CANCEL, "sh", *ids]
