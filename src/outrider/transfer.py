"""put and get: files and folders to and from a far end, over a session."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from outrider import values
from outrider.calls import answer
from outrider.errors import RouteError
from outrider.far import data, files, wire
from outrider.far.link import Slot
from outrider.request import Credit, Request

if TYPE_CHECKING:
    from outrider.session import Session

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, as they travel."""


def put(session: Session, local: str, remote: str, progress: Progress | None = None) -> int:
    """Copy `local`, a file or folder, to the path `remote` (relative: to the far end's folder; `~` works).

    Modes, modification times and links are kept. Files with the size and time that they have here are skipped. Each file
    appears there whole or not at all. Returns how many files travelled. Raises RouteError naming the path at fault.
    """
    transfer = _Transfer(session, "put", remote)
    try:
        entries = files.scan(local)
        transfer.send_value(entries)
        told = transfer.receive_value()
        needed = _indexes(told.get("needed") if isinstance(told, dict) else None, entries)
        total = sum(entries[number][4] for number in needed)
        done = 0
        for piece in files.packed(files.pieces(local, entries, needed)):
            transfer.send(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        transfer.send(b"", ends=True)
        transfer.finish()
    except (files.TransferError, data.DataError) as error:
        raise transfer.failed(str(error)) from None
    except BaseException:
        transfer.cancel()
        raise
    return len(needed)


def get(session: Session, remote: str, local: str, progress: Progress | None = None) -> int:
    """Copy `remote`, a file or folder at the far end, to the path `local`; as `put` in all else.

    Nothing is written outside `local`, whatever the far end says: names that lead elsewhere are refused, and no link
    is followed.
    """
    transfer = _Transfer(session, "get", remote)
    receiver: files.Receiver | None = None
    try:
        entries = transfer.receive_value()
        if session.settings.trust == "data":
            entries = _guarded(entries)
        receiver = files.Receiver(local, entries)
        needed = receiver.prepare()
        transfer.send_value(needed)
        total, done = receiver.total(), 0
        for piece in transfer.received():
            receiver.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        receiver.finish()
        transfer.finish()
    except (files.TransferError, data.DataError) as error:
        if receiver is not None:
            receiver.abandon()
        raise transfer.failed(str(error)) from None
    except BaseException:
        if receiver is not None:
            receiver.abandon()
        transfer.cancel()
        raise
    return len(needed)


def _guarded(said: Any) -> list[Any]:
    """What an untrusted far end says is there, without what could do harm later: links out, modes that give rights."""
    entries: list[Any] = files.checked(said)
    seen = set()
    for entry in entries:
        parts, kind, mode, _, _, target = entry
        path = tuple(parts)
        try:
            os.fsencode("/".join(path))
        except UnicodeEncodeError:
            raise files.TransferError("a name that is none") from None
        if path in seen or (kind == files.LINK and not (path and _leads_within(path, target))):
            raise files.TransferError(
                f"an entry that an untrusted far end may not send: {'/'.join(path)[:200]!r}"
            )
        seen.add(path)
        entry[2] = mode & 0o755
    return entries


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


def _indexes(value: Any, entries: list[Any]) -> list[int]:
    """The far end's answer names files of our manifest, and nothing else."""
    if not isinstance(value, list) or not all(
        type(n) is int and 0 <= n < len(entries) and entries[n][1] == files.FILE for n in value
    ):
        raise files.TransferError("the far end asks for what was not offered")
    return value


class _Transfer:
    """One FILES request: values and contents in both directions, within their credit."""

    def __init__(self, session: Session, op: str, path: str) -> None:
        self.session = session
        self.path = path
        self.request: Request = session.connection.new_request(None, session.timeout)
        self.request.credit = Credit()
        self.request.content = self._arrived
        self._pieces: deque[tuple[bytes, bool]] = deque()
        self._arrived_bytes = self._taken_bytes = 0  # each written by one thread only
        session.connection.provide("files")
        session.connection.send(wire.FILES, self.request.ident, [data.dumps({"op": op, "path": path})])

    def _arrived(self, piece: bytes, ends: bool) -> None:
        self._arrived_bytes += len(piece)
        if self._arrived_bytes - self._taken_bytes > 2 * wire.WINDOW or len(self._pieces) > wire.WINDOW:
            raise wire.ProtocolError("more content than there was leave to send")
        self._pieces.append((piece, ends))

    def send_value(self, value: Any) -> None:
        self.send(data.dumps(value), ends=True)

    def send(self, body: bytes, ends: bool = False) -> None:
        view = memoryview(body)
        while view:
            size = self._take(len(view))
            last = ends and size == len(view)
            flags = wire.STDIN | (wire.END if last else 0)
            self.session.connection.send_frame(wire.DATA, self.request.ident, bytes(view[:size]), flags)
            view = view[size:]
        if ends and not body:
            self.session.connection.send_frame(wire.DATA, self.request.ident, b"", wire.STDIN | wire.END)

    def _take(self, wanted: int) -> int:
        """Credit for a piece. The reading that brings more of it is ours to do while we wait."""
        assert self.request.credit is not None
        wanted = min(wanted, wire.CHUNK)
        while True:
            news = self.request.news  # taken before the look, so that what arrives in between is not missed
            if size := self.request.credit.try_take(wanted):
                return size
            self._await(news)

    def _await(self, news: Slot) -> None:
        """Read until something has happened for this request."""
        if self.request.done or self.session.connection.over:
            self.finish()
            raise files.TransferError("the far end ended the transfer early")
        self.session.connection.wait_for(news, self.request, self.session.timeout)

    def _next(self) -> tuple[bytes, bool]:
        while True:
            news = self.request.news
            if self._pieces:
                piece, ends = self._pieces.popleft()
                if piece:
                    self._taken_bytes += len(piece)
                    self.session.connection.taken(self.request.ident, len(piece))
                return piece, ends
            self._await(news)

    def receive_value(self) -> Any:
        body = bytearray()
        for piece in self.received():
            if not self.request.reserve(len(piece)):
                raise files.TransferError("its list of files is larger than max_answer")
            body += piece
        return values.loads(body, room=2 * self.session.connection.options.answer_limit)

    def received(self) -> Iterator[bytes]:
        """Pieces up to the one that ends the value or the stream."""
        while True:
            piece, ends = self._next()
            if piece:
                yield piece
            if ends:
                return

    def finish(self) -> None:
        """Wait for the far end's own word that all is well."""
        self.session.connection.wait(self.request, self.session.timeout)
        kind, _, segments = self.request.value
        if kind == wire.RAISED:
            raise files.TransferError(answer(segments, {"message": str})["message"])

    def cancel(self) -> None:
        if not self.request.done and not self.session.connection.over:
            self.session.connection.cancel_and_wait(self.request)

    def failed(self, message: str) -> RouteError:
        self.cancel()
        return RouteError(
            f"files did not travel: {message}",
            hop=self.session.place,
            hint="mend what the message names and repeat: what has arrived is skipped then",
        )
