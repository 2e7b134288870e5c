"""Two sandboxed commands that talk: what each prints on stdout is the other's stdin. Passed on here, where it is counted.

Where nobody listens to the referee any more, it does not notice, and can go on to its judgement; a contestant to whom
nobody listens is told so as by any pipe. All is done by the jails' thread.
"""

import os
import select
import threading
import time

from . import wire
from .sandbox import PIECE, JailedCommand

TYPES = False
if TYPES:
    from typing import Any


MOMENT = 0.05
"""Seconds within which the kernel closes all pipes of one that ends; on a busy machine not all at once."""
AT_ONCE = 0.25
"""Seconds in which somebody who has ended is surely noted to have."""
ALONE = "the other of the pair was not started"


class Player(JailedCommand):
    """One of the two. Who is ordered second names the first as `with`; what the first prints waits until then."""

    def __init__(self, jails, ident, order):
        about = order["joined"]
        self.is_referee = about["referee"]
        self.linger = about["linger"]
        self.partner = about["with"]
        self.peer: Any = None
        self.joined = False
        self.held = b""  # heard, and not yet taken
        self.last = False  # nothing more is to be heard
        self.waiting = -1  # its stdout, while it is not read
        self.ended = None
        self.deaf = self.silent = None  # when it was found to have closed its stdin, and its stdout
        self.left = None
        self.timer: Any = None
        self.patience: Any = None
        self.impatient = False
        self.begun = False
        super().__init__(jails, ident, order)
        self.begun = True
        jails.wake()

    def flush(self):
        super().flush()
        if self.impatient:
            self._close_stdin()
        if self.begun and not self.joined and (self.partner is not None or self.cancelled):
            self._join(None if self.cancelled else self.jails.commands.get(self.partner))

    def _join(self, peer):
        self.peer, self.joined = peer, True
        if peer is None:
            self.end("SE", ALONE)
            self.hear_no_more()
        else:
            peer.peer, peer.joined = self, True
            for each in (self, peer):
                each._heed()
                each.resume()
                each._time()
                if each.ended is not None:
                    each._deafen()

    # --- what it says -------------------------------------------------------------------------------------------

    def read(self, fd):
        if fd == self._stdin:
            self._pass_on()
            return False
        if self.open_outputs.get(fd) != wire.STDOUT:
            return super().read(fd)
        if not self.joined or (self.peer is not None and self.peer.held):
            self.jails.pause(fd)
            self.waiting = fd
            return False
        try:
            piece = os.read(fd, PIECE)
        except BlockingIOError:
            return False
        if not piece:
            self.silent = time.monotonic()
            self._note_leaving()
            self._drop(fd)
            if self.peer is not None:
                self.peer.hear_no_more()
            return False
        piece = self.counted(piece)
        if self.peer is not None:
            self.peer.hear(piece)
        return True

    def resume(self):
        """Who listens has room again, or will never have."""
        fd, self.waiting = self.waiting, -1
        if fd >= 0:
            self.jails.watch(fd, self)

    def silence(self):
        """Nobody listens any more: its pipe breaks."""
        self.waiting = -1
        for fd, flag in list(self.open_outputs.items()):
            if flag == wire.STDOUT:
                self._drop(fd)
        self.jails.finish(self)

    def _drop(self, fd):
        del self.open_outputs[fd]
        self.jails.drop(fd)

    # --- what it hears ------------------------------------------------------------------------------------------

    def hear(self, piece):
        if self._stdin >= 0:
            self.held = piece
            self._pass_on()

    def hear_no_more(self):
        self.last = True
        if not self.held:
            self._end_input()

    def _end_input(self):
        """Let it read an end of file; if it has closed its stdout, and so may just be ending, only after a moment."""
        if self._stdin < 0:
            return
        if _is_broken(self._stdin):
            self._find_deaf()
        elif self.silent is None or self.ended is not None:
            self._close_stdin()
        elif self.patience is None:
            self.patience = threading.Timer(MOMENT, self._be_impatient)
            self.patience.daemon = True
            self.patience.start()

    def _be_impatient(self):
        self.impatient = True
        self.jails.wake()

    def _pass_on(self):
        """Hand over what there is room for."""
        try:
            if self.held:
                self.held = self.held[os.write(self._stdin, self.held) :]
            broken = _is_broken(self._stdin)
        except BlockingIOError:
            broken = False
        except OSError:
            broken = True
        if broken:
            self._find_deaf()
        elif self.held:
            self._heed()
        elif self.last:
            self._end_input()
        else:
            self._heed()
            self.peer.resume()

    def _heed(self):
        """Be told when there is room, if something waits for it; and in any case when nobody reads its stdin any more."""
        if self._stdin >= 0:
            self.jails.heed(self._stdin, self, select.EPOLLOUT if self.held else 0)

    def _find_deaf(self):
        self.deaf = time.monotonic()
        self._note_leaving()
        self._deafen()

    def _deafen(self):
        """It has closed its stdin, or ended."""
        self.held = b""
        self._close_stdin()
        if self.peer is not None and not self.peer.is_referee:
            self.peer.silence()
        elif self.peer is not None:
            self.peer.resume()

    def _close_stdin(self):
        if self._stdin >= 0:
            self.jails.pause(self._stdin)
        super()._close_stdin()

    # --- its end ------------------------------------------------------------------------------------------------

    def _note_leaving(self):
        """Who ends, closes both within a moment, in any order."""
        if self.deaf is not None and self.silent is not None and self.deaf - self.silent < AT_ONCE:
            self.left = self.silent

    def drain(self):
        self.ended = time.monotonic()
        if self.timer is not None:
            self.timer.cancel()
        self._deafen()
        if self.peer is not None:
            self.peer._time()
        super().drain()

    def _time(self):
        """A contestant may go on for a while after its referee's end, and no longer."""
        if self.is_referee or self.linger is None or self.ended is not None or self.peer.ended is None:
            return
        words = "it went on for %g s after the referee had ended" % self.linger
        self.timer = threading.Timer(self.linger, self.end, ("TLE", words))
        self.timer.daemon = True
        self.timer.start()

    def result(self):
        """With when it ended: as its pipes told, if it was only then that it ended, since that is what the other may know of
        before anybody has noted the end itself."""
        ended = self.answer["report"]["ended"]
        left = self.left if self.left is not None and ended - self.left < AT_ONCE else ended
        return dict(super().result(), ended=min(ended, left))

    def close(self):
        super().close()
        if self.peer is not None:
            if self.ended is None:  # it was refused
                self.peer.end("SE", ALONE)
            self.peer.hear_no_more()


def _is_broken(fd):
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
