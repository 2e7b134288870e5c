"""put and get: files and folders to and from a far end, over a session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from outrider.errors import RouteError
from outrider.far import data, wire
from outrider.far.files import Pace
from outrider.far.link import Slot
from outrider.far.receiving import Receiver
from outrider.far.sending import Sender
from outrider.far.trees import CHUNK, WINDOW, Record, TransferError
from outrider.near.calls import answer

if TYPE_CHECKING:
    from outrider.session import Session

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, as they travel."""


def put(session: Session, local: str, remote: str, progress: Progress | None = None) -> int:
    """Copy `local`, a file or folder, to the path `remote` (relative: to the far end's folder; `~` works).

    Modes, modification times and links are kept. Files with the size and time that they have here are skipped. Each file
    appears there whole or not at all. Returns how many files travelled. Raises RouteError naming the path at fault.
    """
    told = _Told(progress)
    transfer: _Transfer | None = None
    sender: Sender | None = None
    try:
        sender = Sender(local)
        transfer = _Transfer(session, "put", remote)
        for piece in sender.pieces():
            if piece is None:
                sender.answer(transfer.answers())
                continue
            transfer.send(piece)
            while sender.waits() and transfer.has_news():
                sender.answer(transfer.answers())
            told(sender)
        transfer.finish()
    except TransferError as error:
        raise _failed(session, transfer, error) from None
    except BaseException:
        if transfer is not None:
            transfer.cancel()
        raise
    finally:
        if sender is not None:
            sender.close()
    return sender.count


def get(session: Session, remote: str, local: str, progress: Progress | None = None) -> int:
    """Copy `remote`, a file or folder at the far end, to the path `local`; as `put` in all else.

    Nothing is written outside `local`, whatever the far end says: names that lead elsewhere are refused, and no link
    is followed.
    """
    told = _Told(progress)
    transfer: _Transfer | None = None
    receiver = Receiver(local, _guard if session.settings.trust == "data" else None)
    try:
        transfer = _Transfer(session, "get", remote)
        while not receiver.ended:
            piece = transfer.receive()
            answers = receiver.write(piece)
            if answers:
                transfer.send(answers)
            transfer.taken(piece)
            session.connection.reuse(piece)
            told(receiver)
        receiver.finish()
        transfer.finish()
    except TransferError as error:
        raise _failed(session, transfer, error) from None
    except BaseException:
        if transfer is not None:
            transfer.cancel()
        raise
    finally:
        receiver.abandon()
    return receiver.count


def _guard(record: Record) -> None:
    """Take from what an untrusted far end lists what could do harm later: links out, modes that give rights."""
    for name, target, _ in record.links:
        path = (*record.parts, name)
        if not _leads_within(path, target):
            raise TransferError(f"a link that an untrusted far end may not send: {'/'.join(path)[:200]!r}")
    record.modes = [mode & 0o755 for mode in record.modes]
    if record.mode is not None:
        record.mode &= 0o755


def _leads_within(path: tuple[str, ...], target: str) -> bool:
    """Whether a link at `path` leads to somewhere below the root, by its words alone."""
    depth = len(path) - 1
    steps = target.split("/")
    for step in steps:
        depth += {"..": -1, ".": 0, "": 0}.get(step, 1)
        if depth < 0:
            return False
    # Back up after a way down could go through another link, to elsewhere: only leading dots may.
    downward = [step for step in steps if step not in ("", ".")]
    first = next((n for n, step in enumerate(downward) if step != ".."), len(downward))
    return not target.startswith("/") and ".." not in downward[first:]


class _Told:
    """Tells the caller how far it is, whenever that has changed."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0

    def __call__(self, counted: Sender | Receiver) -> None:
        if self._progress is not None and counted.done != self._done:
            self._done = counted.done
            self._progress(counted.done, counted.total)


class _FarTransferError(TransferError):
    """The same, as the far end tells it: about a path there."""


def _failed(session: Session, transfer: _Transfer | None, error: TransferError) -> RouteError:
    side = "there" if isinstance(error, _FarTransferError) else "here"
    if transfer is not None:
        transfer.cancel()
    return RouteError(
        f"files did not travel: {side}: {error}",
        hop=session.place,
        hint="mend what the message names and repeat: what has arrived is skipped then",
    )


class _Transfer:
    """One FILES request: a stream of bytes each way, no faster than the other end takes it."""

    def __init__(self, session: Session, op: str, path: str) -> None:
        self._session = session
        self._connection = session.connection
        self._pace = Pace()
        self._arrived: deque[bytes] = deque()
        self._arrived_bytes = self._taken_bytes = 0  # each written by one thread only
        self._connection.provide("trees", "receiving" if op == "put" else "sending", "files")
        request = None
        try:
            request = self._request = self._connection.new_request(None, session.timeout)
            request.credit = self._pace
            request.content = self._content
            self._connection.send(wire.FILES, request.ident, [data.dumps({"op": op, "path": path})])
        except BaseException:
            if request is not None:
                self._connection.drop(request.ident)
            raise

    def _content(self, piece: bytes, ends: bool) -> None:
        """Called by whichever thread reads."""
        self._arrived_bytes += len(piece)
        if self._arrived_bytes - self._taken_bytes > WINDOW + CHUNK or len(self._arrived) > WINDOW // 64:
            raise wire.ProtocolError("more content than there was leave to send")
        if piece:
            self._arrived.append(piece)

    def send(self, piece: bytes) -> None:
        """Send a piece of our stream, of at most CHUNK bytes, once there is room for it."""
        while self._pace.room() <= 0:
            news = self._request.news  # taken before the look, so that what arrives in between is not missed
            if self._pace.room() <= 0:
                self._await(news)
        self._pace.sent(len(piece))
        self._connection.send_frame(wire.DATA, self._request.ident, piece, wire.STDIN)

    def has_news(self) -> bool:
        """True if the far end has said something that `receive` returns without waiting."""
        if not self._arrived:
            self._connection.look()
        return bool(self._arrived)

    def receive(self) -> bytes:
        """The next piece of the far end's stream."""
        while not self._arrived:
            news = self._request.news
            if not self._arrived:
                self._await(news)
        return self._arrived.popleft()

    def answers(self) -> bytes:
        """The next piece of the far end's answers, which are small: the far end may go on at once."""
        piece = self.receive()
        self.taken(piece)
        return piece

    def taken(self, piece: bytes) -> None:
        """Tell the far end that a piece has been dealt with, so that it may send more."""
        self._taken_bytes += len(piece)
        self._connection.taken(self._request.ident, len(piece))

    def _await(self, news: Slot) -> None:
        """Read until something has happened for this request."""
        if self._request.done or self._connection.over:
            self.finish()
            raise _FarTransferError("the far end ended the transfer early")
        self._connection.wait_for(news, self._request, self._session.timeout)

    def finish(self) -> None:
        """Wait for the far end's own word that all is well."""
        self._connection.wait(self._request, self._session.timeout)
        kind, _, segments = self._request.value
        if kind == wire.RAISED:
            raise _FarTransferError(answer(segments, {"message": str})["message"])

    def cancel(self) -> None:
        if not self._request.done and not self._connection.over:
            self._connection.cancel_and_wait(self._request)
