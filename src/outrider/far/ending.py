"""The end of the far end itself: nothing that was started here stays."""

import os

from . import processes, wire

GRACE = 2.0
"""Seconds that transfers have to end, with what they have not completed."""


def clean_up(far, reason):
    """Say why, if the near end is still there; end all that was started here, remove the session's folder."""
    reason = reason.encode()
    far.link.finish_writing(wire.BYE, wire.table([reason]) + reason, 0.2)
    if far.files is not None:
        far.files.end_all(GRACE)
    if far.commands is not None:
        far.commands.end_all()
    processes.end(far.session_mark, roots=(os.getpid(),), spare={far.guardian.pid})
    if far.temporary:
        os.chdir("/")
        processes.remove_tree(far.temporary)
    far.guardian.rest()
