"""The server over a unix socket: one loop, no threads; a command gets its client's own stdin, stdout and stderr."""

from __future__ import annotations

import array
import errno
import fcntl
import hmac
import json
import os
import pty
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
from collections import deque

from outrider.bridge.host.policy import Policy, Refused, binds_of, translate

LONGEST = 8 << 20  # bytes of a request; the kernel takes no longer argv
SIGNALS = {"HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "TSTP", "KILL"}


class Request:
    """One connection: its bytes so far, its descriptors, and its command once that runs."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number
        self.read = bytearray()
        self.descriptors: list[int] = []
        self.fields: dict[str, str] = {}
        self.words: list[str] = []
        self.env: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.asked = False
        self.kill_at: float | None = None
        self.script: tuple[int, str] | None = None  # which word names it, and its name

    def whole(self) -> bytes | None:
        """The request, once all of it is there; what follows it stays."""
        if len(self.read) < 4:
            return None
        length = struct.unpack(">I", self.read[:4])[0]
        if length > LONGEST:
            raise Refused("the request is too long")
        if len(self.read) < 4 + length:
            return None
        data = bytes(self.read[4 : 4 + length])
        del self.read[: 4 + length]
        return data

    def parse(self, data: bytes) -> None:
        words = [os.fsdecode(word) for word in data.split(b"\0")]
        if words[0] != "outrider-bridge-1" or words[-2:] != ["end", ""]:
            raise Refused("this client speaks another protocol; use the client of the same version")
        for word in words[1:-2]:
            key, _, value = word.partition("=")
            if key == "arg":
                self.words.append(value)
            elif key == "file":
                if "/" in value or value in ("", ".", ".."):
                    raise Refused("a script's name holds a slash")
                self.script = len(self.words), value
                self.words.append(value)
            elif key == "env":
                name, _, value = value.partition("=")
                self.env[name] = value
            else:
                self.fields[key] = value

    def say(self, text: str, descriptors: list[int] | None = None) -> None:
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            self.connection.sendmsg([os.fsencode(text) + b"\n"], rights)
        except OSError:
            pass  # its client has gone, which the loop will see

    def complain(self, text: str) -> bool:
        """Writes to the command's stderr, if that can take it at once; whether it did."""
        target = self.descriptors[2:3]
        try:
            if not target or not select.select([], target, [], 0)[1]:
                return False
            return os.write(target[0], os.fsencode(text)[:4096]) > 0
        except OSError:
            return False

    def let_go(self) -> None:
        """Its descriptors belong to the command now, or to nobody."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def kill(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass


def private_of(folder: str) -> str:
    """What server.sh keeps for the host alone: beside the folder, or within it where the file system allows no more."""
    beside = os.path.realpath(folder) + ".host"
    return beside if os.path.isdir(os.path.join(beside, "v1")) else os.path.join(folder, "v1", "host")


class Server:
    """Serves `folder`/socket until `stop`. `token` is what clients read in the folder."""

    def __init__(
        self,
        folder: str,
        policy: Policy,
        token: str,
        *,
        jobs: int = 64,
        grace: float = 5,
        audit: str | None = None,
        any_user: bool = False,
    ) -> None:
        self.folder, self.policy, self.token = folder, policy, token
        self.private = private_of(folder)
        self.env = dict(os.environb)
        self.jobs, self.grace, self.audit, self.any_user = jobs, grace, audit, any_user
        self.running: set[Request] = set()
        self.waiting: deque[Request] = deque()
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.number = 0
        self.binding()
        self.woken, waker = socket.socketpair()
        for end in (self.woken, waker):
            end.setblocking(False)
        self.waker = waker
        self.selector.register(self.woken, selectors.EVENT_READ, None)
        self.before = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)

    def binding(self) -> None:
        """The socket, made under another name first, so that who sees it can connect."""
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fresh = f"/proc/self/fd/{held}/.socket.{os.getpid()}"  # a path of any length
            # Not changed afterwards: under its name there could be something else by then.
            mask = os.umask(0o177 if not self.any_user else 0o111)
            try:
                self.listening.bind(fresh)
            finally:
                os.umask(mask)
            self.listening.listen(512)
            os.rename(fresh, os.path.join(self.folder, "socket"))
        finally:
            os.close(held)
        self.listening.setblocking(False)
        self.selector.register(self.listening, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Until `stop` is called, by a signal's handler say; then ends what runs."""
        while not self.stopping:
            self.once(self.next_kill())
        os.unlink(os.path.join(self.folder, "socket"))
        self.selector.unregister(self.listening)
        self.listening.close()
        for request in list(self.running):
            self.end(request)
        while self.running:
            self.once(self.next_kill())
        self.close()

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self.before)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.data, Request):
                self.drop(key.data)
        self.selector.close()
        self.woken.close()
        self.waker.close()

    def stop(self, *_: object) -> None:
        self.stopping = True

    def next_kill(self) -> float | None:
        times = [request.kill_at for request in self.running if request.kill_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def once(self, timeout: float | None) -> None:
        for key, _ in self.selector.select(timeout):
            if key.fileobj is self.listening:
                self.accept()
            elif key.fileobj is self.woken:
                self.woken.recv(4096)
                self.reap()
            else:
                self.hear(key.data)
        now = time.monotonic()
        for request in self.running:
            if request.kill_at is not None and request.kill_at <= now:
                request.kill(signal.SIGKILL)
                request.kill_at = now + self.grace

    def accept(self) -> None:
        try:
            connection, _ = self.listening.accept()
        except OSError:
            return
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.number += 1
        request = Request(connection, self.number)
        if not self.any_user and peer[1] != os.getuid():
            request.say("fail the request is another user's; see --any-user")
            connection.close()
            return
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, request)
        self.hear(request)

    def hear(self, request: Request) -> None:
        """What a client says: its request with its descriptors, then signals; its end is the client's end."""
        try:
            data, control, _, _ = request.connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 3))
        except BlockingIOError:
            return
        except OSError:
            data, control = b"", []
        for level, kind, given in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                request.descriptors += array.array("i", given[: len(given) - len(given) % 4])
        if not data:
            self.lost(request)
            return
        request.read += data
        try:
            if not request.asked:
                whole = request.whole()
                if whole is None:
                    return
                request.asked = True
                request.parse(whole)
                if len(self.running) >= self.jobs:
                    self.waiting.append(request)
                else:
                    self.start(request)
            self.signals(request)
        except Refused as refused:
            self.refuse(request, str(refused))

    def refuse(self, request: Request, why: str) -> None:
        """Says so where the command's errors would stand; to the client if it handed over none."""
        why = why.replace("\n", " ")
        self.note(request, "refused", "refused")
        request.say("exit 125" if request.complain(f"outrider bridge: {why}\n") else f"fail {why}")
        self.drop(request)

    def signals(self, request: Request) -> None:
        while request.process is not None and b"\n" in request.read:
            line, _, rest = bytes(request.read).partition(b"\n")
            request.read = bytearray(rest)
            name = line.decode("ascii", "replace")
            if name in SIGNALS:
                request.kill(getattr(signal, "SIG" + name))

    def lost(self, request: Request) -> None:
        """Its client is gone: so goes its command, unless it was to be kept."""
        self.selector.unregister(request.connection)
        request.connection.close()
        request.let_go()
        if request in self.waiting:
            self.waiting.remove(request)
        if request.process is not None and not request.fields.get("keep"):
            self.end(request)

    def end(self, request: Request) -> None:
        request.kill(signal.SIGHUP)
        request.kill(signal.SIGCONT)
        request.kill_at = time.monotonic() + self.grace

    def start(self, request: Request) -> None:
        fields = request.fields
        if not hmac.compare_digest(os.fsencode(fields.get("token", "")), self.token.encode()):
            raise Refused("the client does not know this server's token")
        if len(request.descriptors) != 3:
            raise Refused("the client handed over no stdin, stdout and stderr")
        name = fields.get("name", "")
        path = self.policy.check(name, request.words)
        binds = binds_of(fields.get("map", ""))
        request.words = self.policy.words(name, request.words, binds)
        folder = fields["cwd"] = translate(fields.get("cwd", ""), binds)
        if not os.path.isabs(folder) or not os.path.isdir(folder):
            raise Refused(
                f"the folder {folder!r} does not exist on the host; start the container with `outrider bridge exec`, "
                "or set OUTRIDER_BRIDGE_MAP"
            )
        env = dict(self.env)
        for key, value in request.env.items():
            if self.policy.takes(key):
                env[os.fsencode(key)] = os.fsencode(value)
        terminal = bool(fields.get("terminal"))
        if terminal:
            env[b"TERM"] = os.fsencode(request.env.get("TERM") or "dumb")
        self.put_script(request)
        self.note(request, "started", "started")
        status = self.spawn(request, [path, *request.words], folder, env, terminal)
        request.let_go()
        if status is None:
            self.running.add(request)
        else:
            self.note(request, "ended", str(status))
            request.say(f"exit {status}")
            self.drop(request)

    def put_script(self, request: Request) -> None:
        """A script that came along, in a file of its own name, since jobs are called after it."""
        if request.script is None:
            return
        at, name = request.script
        place = self.place_of(request)
        os.mkdir(place, 0o700)
        request.words[at] = os.path.join(place, name)
        with open(request.words[at], "wb") as file:
            file.write(os.fsencode(request.fields.get("script", "")))

    def place_of(self, request: Request) -> str:
        return os.path.join(self.private, "scripts", f"s{request.number}")

    def spawn(
        self, request: Request, argv: list[str], folder: str, env: dict[bytes, bytes], terminal: bool
    ) -> int | None:
        """Starts it; gives the status where that fails, as a shell would."""
        master = theirs = None
        own = list(request.descriptors)
        if terminal:
            master, theirs = pty.openpty()
            own = [theirs] * 3
        try:
            request.process = subprocess.Popen(
                argv,
                stdin=own[0],
                stdout=own[1],
                stderr=own[2],
                cwd=folder,
                env=env,
                start_new_session=True,
                # Only for a terminal: it costs the quick way of starting.
                preexec_fn=_take_terminal if terminal else None,
            )
        except OSError as error:
            if error.errno == errno.ENOEXEC and argv[0] != "/bin/sh":
                return self.spawn(request, ["/bin/sh", *argv], folder, env, terminal)
            request.complain(f"{argv[0]}: {os.strerror(error.errno or 0)}\n")
            return 127 if error.errno == errno.ENOENT else 126
        finally:
            if theirs is not None:
                os.close(theirs)
            if master is not None:
                request.say("go", [master])
                os.close(master)
        return None

    def reap(self) -> None:
        for request in list(self.running):
            assert request.process is not None
            status = request.process.poll()
            if status is None:
                continue
            self.running.discard(request)
            ended = f"{status}" if status >= 0 else f"{128 - status} {-status}"
            request.say(f"exit {ended}")
            self.note(request, "ended", ended.partition(" ")[0])
            self.drop(request)
        while self.waiting and len(self.running) < self.jobs and not self.stopping:
            request = self.waiting.popleft()
            try:
                self.start(request)
                self.signals(request)
            except Refused as refused:
                self.refuse(request, str(refused))

    def drop(self, request: Request) -> None:
        if request.script is not None:
            shutil.rmtree(self.place_of(request), ignore_errors=True)
        if request.connection.fileno() >= 0:
            self.selector.unregister(request.connection)
            request.connection.close()
        request.let_go()

    def note(self, request: Request, event: str, outcome: str) -> None:
        """A line in the audit trail, in one write, so that those of several carriers never mix."""
        if self.audit is None:
            return
        words = [request.fields.get("name", ""), *request.words[:100]]
        shown: list[str] = []
        for word in words:
            shown.append(
                os.fsencode(word[:500]).decode("latin-1" if not word.isprintable() else "utf-8", "replace")
            )
            if sum(map(len, shown)) > 3000:
                break
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "event": event,
            "id": f"s{request.number}",
            "argv": shown,
            "words": len(request.words) + 1,
            "cwd": os.fsencode(request.fields.get("cwd", "")).decode("utf-8", "replace"),
            "outcome": outcome,
        }
        trail = os.open(self.audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(trail, json.dumps(line).encode() + b"\n")
        finally:
            os.close(trail)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
