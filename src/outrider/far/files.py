"""Files to and from the far end: the far half of a transfer, and how fast either end may send."""

import time
from _collections import deque  # type: ignore[import-not-found]
from _thread import start_new_thread

from . import data, wire
from .link import Slot
from .trees import CHUNK, WINDOW, TransferError

LEAST = wire.WINDOW
PATIENCE = 0.002
"""Seconds that a piece may take longer than the quickest one did, before less is kept under way."""


class Pace:
    """How much more may be sent just now.

    What is under way stands in pipes and sockets, and every other message of the session stands behind it. So no more is
    kept there than the way can carry: as soon as the other end's word for a piece comes later than it could, less is;
    while it comes in time, more, as a long way needs it.
    """

    def __init__(self):
        self._window = LEAST
        self._sent = self._taken = 0
        self._times = deque()
        self._quickest = 3600.0

    def room(self):
        """Bytes that may be sent now; 0 or less: none."""
        return self._window - (self._sent - self._taken)

    def sent(self, size):
        self._sent += size
        self._times.append((self._sent, time.monotonic()))

    def grant(self, size):
        """The other end has taken `size` bytes."""
        full = self.room() < CHUNK
        self._taken += size
        took = -1.0
        while self._times and self._times[0][0] <= self._taken:
            took = time.monotonic() - self._times.popleft()[1]
        if took < 0:
            return
        self._quickest = min(self._quickest, took)
        if took > 2 * self._quickest + PATIENCE:
            self._window = max(LEAST, self._window - size // 2)
        elif full:
            self._window = min(WINDOW, self._window + size)

    def close(self):
        """Nothing more will be taken."""


class FarTransfer:
    """One transfer at the far end, in a thread of its own."""

    def __init__(self, owner, ident, order):
        self.owner = owner
        self.link = owner.link
        self.ident = ident
        self.order = order
        self.pace = Pace()
        self.news = Slot()
        self.arrived = deque()
        self.cancelled = False
        self.over = Slot()

    def run(self):
        try:
            try:
                put = self.order["op"] == "put"
                count = self._receive(self.order["path"]) if put else self._send(self.order["path"])
                answer = wire.RESULT, {"files": count}
            except Exception as error:
                answer = wire.RAISED, {"message": str(error), "kind": type(error).__name__}
            self.owner.running.pop(self.ident, None)
            self.link.send(answer[0], self.ident, [data.dumps(answer[1])])
        except (OSError, ValueError):
            pass  # the stream is over
        finally:
            self.over.finish()

    def _receive(self, path):
        """put: what arrives is written, and each piece taken is told, so that more may come."""
        from .receiving import Receiver

        receiver = Receiver(path)
        try:
            while not receiver.ended:
                piece = self._next()
                answers = receiver.write(piece)
                if answers:
                    self._content(answers)
                self.link.reader.reuse(piece)
                self.link.send_frame(wire.CREDIT, self.ident, b"%d" % len(piece))
            receiver.finish()
        finally:
            receiver.abandon()
        return receiver.count

    def _send(self, path):
        """get: what of our tree must travel, the near end's answers say."""
        from .sending import Sender

        sender = Sender(path)
        try:
            for piece in sender.pieces():
                if piece is not None:
                    self._content(piece)
                while self.arrived or piece is None:
                    sender.answer(self._answer())
                    piece = b""
        finally:
            sender.close()
        return sender.count

    def _answer(self):
        piece = self._next()
        self.link.send_frame(wire.CREDIT, self.ident, b"%d" % len(piece))
        return piece

    def _next(self):
        while not self.arrived:
            self._wait()
        return self.arrived.popleft()

    def _wait(self):
        if self.cancelled:
            raise TransferError("cancelled")
        self.news.sleep(None)

    def _content(self, body):
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            while self.pace.room() <= 0 or self.cancelled:
                self._wait()
            self.pace.sent(len(piece))
            self.link.send_frame(wire.DATA, self.ident, piece, wire.CONTENT)


class FarFiles:
    """All transfers under way at the far end."""

    def __init__(self, link):
        self.link = link
        self.running = {}

    def start(self, ident, order):
        transfer = self.running[ident] = FarTransfer(self, ident, order)
        start_new_thread(transfer.run, ())

    def knows(self, ident):
        return ident in self.running

    def grant(self, ident, size):
        transfer = self.running.get(ident)
        if transfer is not None:
            transfer.pace.grant(size)
            transfer.news.wake()

    def input(self, ident, piece, ends):
        transfer = self.running.get(ident)
        if transfer is not None and piece:
            transfer.arrived.append(piece)
            transfer.news.wake()

    def cancel(self, ident):
        transfer = self.running.get(ident)
        if transfer is not None:
            transfer.cancelled = True
            transfer.news.wake()

    def end_all(self, grace):
        """End them all, with what they have not completed; waits up to `grace` seconds."""
        running = list(self.running.values())
        until = time.monotonic() + grace
        for transfer in running:
            transfer.cancelled = True
            transfer.news.wake()
        for transfer in running:
            while not transfer.over.done and time.monotonic() < until:
                transfer.over.sleep(until - time.monotonic())
