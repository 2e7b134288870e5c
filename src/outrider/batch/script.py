"""The shell script that is a job: it feeds what was packed to the tail of the route, and keeps what that answers."""

from __future__ import annotations

import os
import shlex

from outrider.batch.schedulers.base import Scheduler
from outrider.chain import Chain
from outrider.command import Command
from outrider.far import loader

FOLDER = "@OUTRIDER_FOLDER@"
"""Stands for the job's folder until the submit host, which alone knows its home, has written the quoted path there."""
STOPPED = 85
"""Exit status of a far end that was asked for a checkpoint, and has written how to go on behind its answer."""

# What a far end that stopped has written last: how to go on, and its size in 20 digits.
_GO_ON = f"""\
if [ "$status" = {STOPPED} ]; then
    size=$(tail -c 20 "$d/answer.$n.$a")
    case $size in *[!0-9]* | "") size=0 ;; esac
    tail -c "$(expr "$size" + 20)" "$d/answer.$n.$a" | head -c "$(expr "$size" + 0)" >"$d/call.$n.part" &&
        mv "$d/call.$n.part" "$d/call.$n"
    if [ "$asked" = TERM ]; then exit 0; fi
    if [ ! -e "$d/cancelled" ] && [ ! -e "$d/cancelled.$n" ]; then
        @REQUEUE@ && exit 0
    fi
fi
"""


def script(tail: Chain, scheduler: Scheduler, python: str, checkpoint: bool, array: bool) -> str:
    """The script of a job that makes calls. Each attempt answers into a file of its own."""
    words = _words(tail, Command([python, "-c", loader.LOADER]))
    go_on = _GO_ON.replace("@REQUEUE@", scheduler.requeue or "false") if checkpoint else ""
    index = f"${{{scheduler.index}:-0}}" if array else "0"
    return _script(index, f'cat "$d/start" "$d/call.$n" | {words}', go_on)


# Values of variables may be secrets, and a command line is seen by all: they come as the first line of stdin. `read`
# takes no byte beyond it.
_WITH_VARIABLES = """\
nl='
'
IFS= read -r variables && eval "$variables"
unset variables nl
exec "$@"
"""


def command_script(tail: Chain, command: Command) -> tuple[str, bytes]:
    """The script of a job that runs a command, and what stands ahead of its stdin."""
    ahead = ""
    if command.env:
        pairs = [f"{name}={shlex.quote(value)}" for name, value in command.env.items()]
        ahead = "export " + " ".join(pairs).replace("\n", "'\"$nl\"'") + "\n"
        command = Command(["sh", "-c", _WITH_VARIABLES, "sh", *command.argv], {}, command.cwd)
    return _script("0", f'{_words(tail, command)} <"$d/input"', ""), os.fsencode(ahead)


def _words(tail: Chain, command: Command) -> str:
    return shlex.join(str(word) for word in tail.wrap(command).as_argv())


def _script(index: str, what: str, go_on: str) -> str:
    """index: which element it is. A job that is submitted inside an element of another array is no element of that.

    The last act is the file `end`, whole at once: who sees it sees all that was answered.

    ALRM is how Flux says that the time is up.
    """
    return f"""\
#!/bin/sh
umask 077
d={FOLDER}
n={index}
a=0
while [ -e "$d/begun.$n.$a" ]; do a=$((a+1)); done
: >"$d/begun.$n.$a"
asked=
trap 'asked=${{asked:-TERM}}; kill -TERM "$child" 2>/dev/null' TERM INT ALRM
trap 'asked=USR1; kill -USR1 "$child" 2>/dev/null' USR1
{what} >"$d/answer.$n.$a" 2>>"$d/errors.$n" &
child=$!
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
{go_on}echo "$status" >"$d/end.$n.part" && mv "$d/end.$n.part" "$d/end.$n"
exit "$status"
"""
