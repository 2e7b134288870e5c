"""A small process beside the far end that cleans up when the far end itself is killed."""

import os

from .quick import signal

SESSION_MARK = "OUTRIDER_SESSION"


def close_all_but(keep):
    """Close every descriptor except those in `keep`."""
    try:
        open_fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        open_fds = list(range(256))
    for fd in open_fds:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass


class Guardian:
    """A small forked process that cleans up when the far end itself is killed.

    It holds nothing but the reading end of a pipe: lines `+group N`, `-group N`, `+folder PATH`, `-folder PATH`, `done`.
    The pipe's end means that the far end is gone, however it went; without a `done` before, it has cleaned up nothing.
    """

    def __init__(self, mark):
        self.mark = mark
        self.pid = None
        self._pipe = -1

    def start(self):
        """Fork it, once; before there are threads."""
        if self.pid is not None:
            return
        reader, self._pipe = os.pipe()
        own_group = os.getpgrp()
        leads = own_group == os.getpid()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setsid()
                for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)
                close_all_but({reader})
                self._watch(reader, self.mark, {own_group} if leads else set())
            finally:
                os._exit(0)
        os.close(reader)

    @staticmethod
    def _watch(reader, mark, groups):
        groups, folders, pending = set(groups), set(), b""
        while True:
            try:
                piece = os.read(reader, 65536)
            except OSError:
                break
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\0")
            for line in lines:
                if line == b"done":
                    return
                what, _, value = line.partition(b" ")
                known = groups if what.endswith(b"group") else folders
                item = int(value) if known is groups else value
                (known.add if what[:1] == b"+" else known.discard)(item)
        from .processes import end, remove_tree

        end(mark, groups)
        for folder in folders:
            remove_tree(os.fsdecode(folder))

    def _tell(self, what, value):
        try:
            os.write(self._pipe, b"%s %s\0" % (what, value))
        except OSError:  # the guardian was killed: the far end still cleans up after itself
            pass

    def rest(self):
        """All is cleaned up: nothing is left for it to do."""
        try:
            os.write(self._pipe, b"done\0")
        except OSError:  # it was killed
            pass

    def watch_group(self, group):
        self._tell(b"+group", b"%d" % group)

    def forget_group(self, group):
        self._tell(b"-group", b"%d" % group)

    def watch_folder(self, path):
        self._tell(b"+folder", os.fsencode(path))

    def forget_folder(self, path):
        self._tell(b"-folder", os.fsencode(path))
