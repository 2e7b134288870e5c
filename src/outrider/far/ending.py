"""The end of a cancelled call, and of the far end itself: with all that they started."""

import os
import time

from . import processes

CANCEL_GRACE = 2.0
"""Seconds that a cancelled call has to end before the whole far end is ended with it."""
CANCEL_HELP = 0.2
"""Seconds after which the processes that it started are ended, in case it waits for one of them."""


def insist(far, ident):
    """After a cancelled call: end what it started; and if it will not end, end the far end with it."""
    started = time.monotonic()
    helped = False
    running = far.calls.threads
    while ident in running and time.monotonic() < started + CANCEL_GRACE:
        time.sleep(0.02)
        if not helped and time.monotonic() > started + CANCEL_HELP and len(running) == 1:
            helped = True  # it may be waiting, in C, for a process that it started
            _end_strays(far)
    if ident in running:
        far.ended("a cancelled call did not end")
    elif not running:
        _end_strays(far)


def _end_strays(far):
    """End all that calls have started; commands, which are requests of their own, go on."""
    commands = far.commands
    spare = {far.guardian.pid} | (commands.pids() if commands is not None else set())
    known = {far.guardian.pid, *(commands.known() if commands is not None else ())}
    processes.end(far.session_mark, roots=(os.getpid(),), spare=spare, known=known)


def clean_up(far):
    """End all that was started here, remove the session's folder."""
    if far.files is not None:
        far.files.end_all(CANCEL_GRACE)
    if far.commands is not None:
        far.commands.end_all()
    spare = {far.guardian.pid}
    processes.end(far.session_mark, roots=(os.getpid(),), spare=spare, known=spare)
    if far.temporary:
        os.chdir("/")
        processes.remove_tree(far.temporary)
    far.guardian.rest()
