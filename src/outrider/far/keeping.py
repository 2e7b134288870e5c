"""A far end that outlives its stream: it numbers what it sends, keeps what is not confirmed, and waits for a near end.

It serves the pipes of a process that the route has started, which does nothing but hold its place: the holder. When the
stream ends the holder goes, and so all that the route had started goes in good order. Whoever comes next starts a holder of
its own, which hands its pipes over at a socket (see attaching).
"""

import os
import select
import sys
import time
from _thread import RLock, allocate_lock, get_ident, start_new_thread

from . import data, wire
from .attaching import hold, peer_user, receive

KEPT = 0x20
"""Flag on CREDIT of id 0: so many frames have arrived here."""
CONFIRM_FRAMES, CONFIRM_BYTES = 64, 256 * 1024
"""What is received at the most until that is confirmed."""
HOLD = 64 << 20
"""Bytes that are kept while nobody takes them; then whoever sends waits."""
AHEAD = 16 << 20
"""Bytes of output of one request that may be under way, instead of wire.WINDOW: so many it may print unattended."""
LOOK = 500
"""Milliseconds between looks at whether the stream has been exchanged, for who waits to write."""
SETTLE = 500
"""Milliseconds after which what was being started when the near end went has been started."""
DETACH = b"detach"
"""What a BYE says that does not end the work."""
OPTIONS = 4
"""Flag of CALL, as in calls."""


class Outgoing:
    """Frames that were sent and are not confirmed, so that they can be sent again. `first`: the number of the oldest."""

    def __init__(self, first=0):
        self.first = first
        self.frames = []
        self.size = 0
        self._at = 0
        self._done = 0
        self._lock = RLock()  # a signal handler may close while its own thread is in here

    def add(self, frame):
        with self._lock:
            self.frames.append(frame)
            self.size += len(frame)
            return self.first + len(self.frames)

    def next(self):
        """What is to be written next; None if all is."""
        with self._lock:
            if self._at == len(self.frames):
                return None
            frame = self.frames[self._at]
            return memoryview(frame)[self._done :] if self._done else frame

    def wrote(self, size):
        with self._lock:
            self._done += size
            if self._done == len(self.frames[self._at]):
                self._at, self._done = self._at + 1, 0

    def confirm(self, count):
        """The other end has all frames before number `count`. ValueError if it cannot have."""
        with self._lock:
            have = count - self.first
            if have > len(self.frames):
                raise ValueError("more is confirmed than was sent")
            have = min(have, self._at)  # one may have gone out just now, and is not noted so yet
            if have > 0:
                self.size -= sum([len(frame) for frame in self.frames[:have]])
                del self.frames[:have]
                self.first, self._at = self.first + have, self._at - have

    def rewind(self, count):
        """On a new stream: all from number `count` on is written again."""
        with self._lock:
            self._at = len(self.frames)  # whether a frame went out whole, the other end knows better
            self.confirm(count)
            self._at = self._done = 0

    def restart(self, frames):
        """For another reader, who has nothing: these frames, numbered anew."""
        with self._lock:
            self.first = self._at = self._done = 0
            self.frames = frames
            self.size = sum([len(frame) for frame in frames])


class Incoming:
    """Counts the frames that a reader takes in. `confirm(count)` is called when the other end should hear of it."""

    def __init__(self, confirm):
        self.count = 0
        self.confirm = confirm
        self._said = 0
        self._size = 0

    def listen_to(self, reader):
        plain = reader.next

        def counted():
            frame = plain()
            if frame is not None:
                self.count += 1
                self._size += len(frame[3])
                if self.count - self._said >= CONFIRM_FRAMES or self._size >= CONFIRM_BYTES:
                    self.tell()
            return frame

        reader.next = counted

    def tell(self):
        self._said, self._size = self.count, 0
        self.confirm(self.count)


class Requests:
    """What runs here for which request, and which of it is bound to the near end that started it."""

    def __init__(self):
        self.running = {}
        self.asked = {}
        self.large = {}
        self._left = {}
        self._answers = []

    def came(self, kind, ident, flags, segments):
        """A message has arrived."""
        if kind in (wire.CALL, wire.ISOLATED):
            about = data.loads(segments[0]) if flags & OPTIONS else {}
            name = about.get("name", "")
            self.running[ident] = {
                "id": ident,
                "kind": "call",
                "name": name,
                "since": time.time(),
                "bound": 0,
            }
            self.running[ident]["bound"] = bool(about.get("debug"))
        elif kind == wire.RUN:
            order = data.loads(segments[0])
            about = {"id": ident, "kind": "command", "argv": order["argv"], "since": time.time()}
            self.running[ident] = dict(about, bound=order["tty"] is not None or order["stdin"])
            self.running[ident]["fed"] = order["stdin"] and order["tty"] is None
        elif kind == wire.FILES:
            self.running[ident] = {"id": ident, "kind": "files", "bound": True}
        elif kind == wire.DATA and flags & wire.END and self.running.get(ident, {}).get("fed"):
            self.running[ident]["bound"] = False
        elif kind == wire.CANCEL and ident in self.running:  # nobody waits for it any more
            self.running[ident]["bound"] = True
        elif kind == wire.SOURCE:
            self.asked.pop(ident, None)

    def goes(self, frame, number):
        """A frame is being sent; it is confirmed once all before `number` are."""
        ident, kind, flags = int.from_bytes(frame[4:8], "little"), frame[8], frame[9]
        if kind == wire.IMPORT:
            self.asked[ident] = frame
        elif kind == wire.ITEM and ident in self.running:
            self.running[ident]["bound"] = True
        elif kind in (wire.RESULT, wire.RAISED) and not flags & wire.LARGE:
            self._answers.append((number, ident))
        if flags & wire.LARGE and kind != wire.PART:
            sizes, _ = wire.read_table(frame[wire.HEADER_SIZE : -1], 1 << 62)
            self.large[ident] = [frame]
            self._left[ident] = sum([size for size, _ in sizes])
        elif kind == wire.PART and ident in self.large:
            self.large[ident].append(frame)
            self._left[ident] -= len(frame) - wire.HEADER_SIZE - 1
            if not self._left[ident]:
                self._answers.append((number, ident))

    def confirmed(self, count):
        while self._answers and self._answers[0][0] <= count:
            _, ident = self._answers.pop(0)
            self.large.pop(ident, None)
            self._left.pop(ident, None)
            self.running.pop(ident, None)

    def for_another(self, frames):
        """What a near end gets that has nothing yet: whole messages, and the questions that nobody has answered."""
        self._answers = []
        kept = []
        for frame in frames:
            kind, flags = frame[8], frame[9]
            if kind in (wire.PART, wire.IMPORT, wire.CREDIT, wire.PONG) or flags & wire.LARGE:
                continue
            kept.append(frame)
            if kind in (wire.RESULT, wire.RAISED):
                self._answers.append((len(kept), int.from_bytes(frame[4:8], "little")))
        for ident, parts in self.large.items():
            kept += parts
            if not self._left[ident]:
                self._answers.append((len(kept), ident))
        return kept + list(self.asked.values())


class Keeping:
    """The stream of one far end, which is exchanged whenever a near end comes, and is not there in between."""

    def __init__(self, far, order):
        self.far = far
        self.link = far.link
        self.order = order
        self.era = 0
        self.out = Outgoing(-1)  # the greeting is not counted
        self.requests = Requests()
        self.incoming = Incoming(self._confirm)
        self.attached = True
        self.offer = None
        self._state = RLock()
        self._lost_at = 0.0
        self._reading = 0
        self._wake_read, self._wake = _pipe()
        self._told_read, self._told = _pipe()
        self._null = os.open(os.devnull, os.O_RDWR)
        self.hold = self._leave()
        self._listen()
        self._install()

    def _leave(self):
        """Go on in another process, of nobody's session; this one holds its place in the route."""
        reader, writer = os.pipe()
        if os.fork():
            os.close(writer)
            hold(self.link.reader.fd, self.link.write_fd, lambda: os.read(reader, 1))
        os.setsid()
        os.close(reader)
        return lambda: os.close(writer)

    def _listen(self):
        """A socket of a random name in a folder of a random name, which is this user's alone."""
        import socket

        top = os.environ.get("TMPDIR") or "/tmp"  # the folder in it is of this user alone
        self.folder = os.path.join(top, "outrider-kept-" + os.urandom(12).hex())
        os.mkdir(self.folder, 0o700)
        self.far.guardian.start()
        self.far.guardian.watch_folder(self.folder)
        self.name = os.urandom(8).hex()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:  # by a short name, as a socket's must be
            self.listener.bind("/proc/self/fd/%d/%s" % (folder, self.name))
            self.listener.listen(8)
        except OSError:
            self._remove_folder()
            raise
        finally:
            os.close(folder)
        self.far.more = {"path": os.path.join(self.folder, self.name), "era": 0}

    def _install(self):
        from .output import CallOutput

        CallOutput.LIMIT = AHEAD
        link, far = self.link, self.far
        self._ended, far.ended = far.ended, self.ended
        link.on_end = self.ended
        self._plain_read, link._read = link._read, self.read
        link._write = self.write
        os.set_blocking(link.write_fd, False)
        self._fill, link.reader.fill = link.reader.fill, self.fill
        self.incoming.listen_to(link.reader)
        self._poll = select.poll()
        self._poll.register(link.reader.fd, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        start_new_thread(self._serve, ())

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self):
        """As Link._read: what concerns the stream itself is dealt with here."""
        message = self._plain_read()
        if message is None:
            return None
        kind, ident, flags, segments = message
        if kind == wire.CREDIT and flags & KEPT and not ident:
            count = int(segments[0])
            self.out.confirm(count)
            self.requests.confirmed(count)
            return None
        if kind == wire.BYE and bytes(segments[0]) == DETACH:
            self.lose()
            return None
        self.requests.came(kind, ident, flags, segments)
        return message

    def fill(self):
        """As FrameReader.fill, through any number of streams: it never says that there is nothing more."""
        self._reading = get_ident()
        silent = 0
        interval, looks = self.order["heartbeat"] or (None, 0)
        while True:
            offer = self.offer
            if offer is not None:
                self._take(offer)
                silent = 0
            ready = self._ready(interval)
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            elif ready:
                if self._fill():
                    return True
                self.lose()
            elif self.attached:
                silent += 1
                if silent >= looks:
                    self.lose()

    def _ready(self, interval):
        if not self.attached:
            self._poll.unregister(self.link.reader.fd)
        try:
            timeout = interval * 1000 if interval and self.attached else None
            return [fd for fd, _ in self._poll.poll(timeout)]
        finally:
            self._poll.register(self.link.reader.fd, select.POLLIN)

    # --- writing ------------------------------------------------------------------------------------------------

    def write(self, buffers):
        """As Link._write. What nobody takes just now is kept; past HOLD, whoever sends it waits."""
        while not self.attached and self.out.size > HOLD and get_ident() != self._reading:
            time.sleep(0.2)
        frame = b"".join(buffers)
        self.link._take_turn()
        try:
            self.requests.goes(frame, self.out.add(frame))
            self._push()
        finally:
            self.link._writing.release()

    def _confirm(self, count):
        """In the thread that reads, which must not wait to write: else each end may wait for the other to read."""
        self.out.add(wire.frame(wire.CREDIT, 0, b"%d" % count, KEPT))
        if self.link._writing.acquire(False):
            try:
                self._push(wait=False)
            finally:
                self.link._writing.release()

    def _push(self, wait=True):
        """Write what is to be written, as long as there is a stream."""
        while self.attached and self.offer is None:
            piece = self.out.next()
            if piece is None:
                return
            try:
                self.out.wrote(os.write(self.link.write_fd, piece))
            except BlockingIOError:
                if not wait:
                    return
                poll = select.poll()
                poll.register(self.link.write_fd, select.POLLOUT)
                poll.poll(LOOK)
            except OSError:
                self.lose()

    def _push_all(self):
        with self.link._writing:
            self._push()

    # --- the stream goes, and another comes ---------------------------------------------------------------------

    def lose(self):
        """There is no near end any more: its pipes are let go of, the work goes on, and the clock is ticking."""
        with self._state:
            if not self.attached:
                return
            self.attached = False
            self._lost_at = time.monotonic()
            for fd in (self.link.reader.fd, self.link.write_fd):
                os.dup2(self._null, fd, inheritable=False)
            self.hold()
            self.hold = bool  # once is enough
        self._print_ahead()
        os.write(self._told, b"x")

    def _serve(self):
        """In a thread of its own: wait for near ends, and end all when none has come in time."""
        poll = select.poll()
        poll.register(self.listener.fileno(), select.POLLIN)
        poll.register(self._told_read, select.POLLIN)
        settled = True
        while True:
            left = None
            if not self.attached:
                left = max(0, self._lost_at + self.order["seconds"] - time.monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(left if settled else SETTLE)]
            if self._told_read in ready:
                os.read(self._told_read, 64)
                settled = False
            elif ready:
                try:
                    self._meet()
                except Exception as error:  # whoever it was: the next may be better
                    sys.stderr.write("attaching failed: %s\n" % error)
            elif not settled:  # what was just being started is running by now
                settled = True
                if not self.attached:
                    self._print_ahead()
            elif left is not None and not self.attached:
                self.far.ended("nobody came in time")

    def _meet(self):
        """Somebody is at the socket."""
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        body, pipes = receive(connection)
        try:
            asked = data.loads(body)
            refusal = self._refusal(connection, asked)
            if refusal is None and len(pipes) == 2:
                connection.settimeout(None)
                taken = allocate_lock()
                taken.acquire()
                self.offer = (asked, pipes, connection, taken)
                pipes = ()  # whoever takes them closes them
                os.write(self._wake, b"x")
                taken.acquire()
                return
            connection.send((refusal or "pipes").encode())
        finally:
            for fd in pipes:
                os.close(fd)

    def _refusal(self, connection, asked):
        """Why this one is not let in; None if it is."""
        if peer_user(connection) != os.getuid() or not _same(asked["secret"], self.order["secret"]):
            return "secret"
        if asked["era"] is not None and asked["era"] != self.era:
            return "other"
        if asked["era"] is None and self.attached and not asked["take"]:
            return "attached"
        return None

    def _take(self, offer):
        """In the thread that reads: go on with these pipes."""
        asked, (read_fd, write_fd), connection, taken = offer
        link = self.link
        self.lose()
        with link._writing:
            again = asked["era"] is not None
            frames = [] if again else self._for_another(asked)
            if again:
                self.out.rewind(asked["received"])
                self.requests.confirmed(asked["received"])
            else:
                self.out.restart(frames)
                self.era += 1
            self._greet(write_fd)
            for fd, place in ((read_fd, link.reader.fd), (write_fd, link.write_fd)):
                os.dup2(fd, place, inheritable=False)
                os.close(fd)
            os.set_blocking(link.write_fd, False)
            self._reset_reader(again)
            self.hold = connection.close
            connection.send(b"taken")
            with self._state:
                self.attached = True
                self.offer = None
        taken.release()
        start_new_thread(self._push_all, ())

    def _greet(self, write_fd):
        requests = [about for about in self.requests.running.values() if not about["bound"]]
        last = max([0, *self.requests.running])
        kept = dict(self.far.more, era=self.era, received=self.incoming.count, last=last, pending=requests)
        about = dict(self.far.about(None), kept=kept)
        os.set_blocking(write_fd, True)
        try:
            wire.write_all(write_fd, [wire.frame(wire.HELLO, 0, _message(data.dumps(about)))])
        except OSError:  # it has gone again, which is seen when it is read
            pass

    def _reset_reader(self, again):
        """What came in part on the old stream comes once more."""
        reader = self.link.reader
        reader._buffer, reader._at, reader._done = b"", 0, 0
        reader._part, reader._view = None, memoryview(b"")
        if not again:
            self.link._arriving.clear()

    def _for_another(self, asked):
        """Frames for a near end that has nothing. What is bound to the one before ends."""
        if asked["of"] == self.era:
            self.out.rewind(asked["received"])
            self.requests.confirmed(asked["received"])
        self.incoming.count = self.incoming._said = 0
        for ident, about in list(self.requests.running.items()):
            if about["bound"]:
                start_new_thread(self.far.handle, (wire.CANCEL, ident, 0, [b""]))
        return self.requests.for_another(self.out.frames)

    def _print_ahead(self):
        """Nobody takes what is printed: so much of each request is kept, whatever the last near end has taken of it."""
        far = self.far
        under_way = {}
        for frame in list(self.out.frames):
            if frame[8] == wire.DATA:
                ident = int.from_bytes(frame[4:8], "little")
                under_way[ident] = under_way.get(ident, 0) + len(frame)
        for ident in list(self.requests.running):
            far.output.grant(ident, AHEAD)
            if far.pump is not None:
                far.pump.grant(
                    ident, max(0, AHEAD - under_way.get(ident, 0) - far.pump._credit.get(ident, 0))
                )

    # --- the end ------------------------------------------------------------------------------------------------

    def ended(self, reason):
        self._remove_folder()
        self._ended(reason)

    def _remove_folder(self):
        try:
            os.unlink(os.path.join(self.folder, self.name))
        except OSError:
            pass
        try:
            os.rmdir(self.folder)
        except OSError:
            pass


def _pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, writer


def _message(body):
    return wire.table([body]) + body


def _same(one, other):
    from _operator import _compare_digest

    return _compare_digest(one, other)
