"""The shell script that is a job: it feeds what was packed to the tail of the route, and keeps what that answers."""

from __future__ import annotations

import shlex

from outrider.chain import Chain
from outrider.command import Command
from outrider.far import loader

FOLDER = "@OUTRIDER_FOLDER@"
"""Stands for the job's folder until the submit host, which alone knows its home, has written the quoted path there."""


def script(tail: Chain, python: str) -> str:
    """The job's script. Its last act is the file `end`, whole at once: who sees it sees all that was answered."""
    command = tail.wrap(Command([python, "-c", loader.LOADER]))
    words = shlex.join(str(word) for word in command.as_argv())
    return f"""\
#!/bin/sh
umask 077
d={FOLDER}
trap 'kill -TERM "$child" 2>/dev/null' TERM INT USR1
{words} <"$d/start" >"$d/answer" 2>"$d/errors" &
child=$!
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
echo "$status" >"$d/end.part" && mv "$d/end.part" "$d/end"
"""
