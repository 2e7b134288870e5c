"""The container's end over a unix socket: hands the caller's own stdin, stdout and stderr to the command on the host.

Standard library only, Python 3.8 or newer, and one file: the server puts a copy of it into its folder, for images in
which Outrider is not installed. Used by `client.sh` where a terminal is wanted, and by `outrider.bridge` itself.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAGIC = b"outrider-bridge-1"
FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")
# Of sbatch's options, those that stand alone: what follows any other is its value.
_ALONE = frozenset(
    "contiguous exclusive help hold ignore-pbs nice no-kill no-requeue oversubscribe overcommit parsable propagate"
    " get-user-env quiet reboot requeue spread-job test-only usage use-min-nodes verbose version wait".split()
)
_ALONE_SHORT = "hHIkKOQRsvVWX"


class BridgeError(Exception):
    """The bridge, not the command, failed; the message says what to do."""


class Script(bytes):
    """The word that names a script, which goes along with the request."""


class Told:
    """What the server's file tells: the protocol, the token, which variables travel."""

    def __init__(self, folder: str) -> None:
        try:
            with open(os.path.join(folder, "v1", "server"), "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            raise BridgeError(
                f"no server in {folder}: start one on the host (`outrider bridge serve`), and bind its folder into "
                "the container"
            ) from None
        words = lines[0].split()
        if words[:2] != [b"outrider-bridge", b"1"] or len(words) < 4:
            raise BridgeError(f"the server in {folder} speaks another protocol; use one of the same version")
        self.carrier = words[2].decode()
        self.token = words[3]
        self.patterns = [word for word in lines[1].partition(b" ")[2].decode().split(",") if word]


def script_of(words: list[bytes]) -> int | None:
    """Where among sbatch's words its script stands; None if there is none."""
    at = 0
    while at < len(words):
        word = os.fsdecode(words[at])
        if word == "--wrap" or word.startswith("--wrap="):
            return None
        if word == "--":
            return at + 1 if at + 1 < len(words) else None
        if not word.startswith("-") or word == "-":
            return at
        if word.startswith("--"):
            at += 1 if "=" in word or word[2:] in _ALONE else 2
        else:
            at += 1 if len(word) > 2 or word[1] in _ALONE_SHORT else 2
    return None


def encode(
    told: Told, name: bytes, words: list[bytes], cwd: bytes, env: dict[bytes, bytes], extra: list[bytes]
) -> bytes:
    """A request's words, each ended by NUL, as they stand in the `req` file of the other carriers."""
    from fnmatch import fnmatchcase

    fields = [MAGIC, b"token=" + told.token, b"name=" + name, b"cwd=" + cwd, *extra]
    for key, value in env.items():
        if any(fnmatchcase(os.fsdecode(key), pattern) for pattern in told.patterns):
            fields.append(b"env=" + key + b"=" + value)
    fields += [(b"file=" if isinstance(word, Script) else b"arg=") + word for word in words]
    fields.append(b"end")
    for field in fields:
        if b"\0" in field:
            raise ValueError("embedded null byte")
    return b"\0".join(fields) + b"\0"


def connect(folder: str) -> socket.socket:
    """A connection to the server; BridgeError at once if none is there."""
    address = os.path.join(folder, "socket")
    held = None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(address)) > 100:  # the kernel takes no longer ones
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            address = f"/proc/self/fd/{held}/socket"
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise BridgeError(
            f"no server answers in {folder} ({error.strerror}); start it again on the host"
        ) from None
    finally:
        if held is not None:
            os.close(held)
    return connection


class Running:
    """A command that was asked for. `wait` gives its status; `send` signals its process group."""

    def __init__(self, folder: str, request: bytes, descriptors: list[int]) -> None:
        self.folder = folder
        self.socket = connect(folder)
        self.read = b""
        self.signal = 0  # that ended the command
        self.master: int | None = None  # the terminal's other end, once it came
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        data = struct.pack(">I", len(request)) + request
        try:
            sent = self.socket.sendmsg([data], rights)
            if sent < len(data):
                self.socket.sendall(data[sent:])
        except OSError:
            pass  # it may have answered already; else the first line that is wanted tells

    def gone(self) -> NoReturn:
        self.socket.close()
        raise BridgeError(f"the server in {self.folder} has ended; start it again on the host")

    def line(self) -> bytes:
        """The next line that the server says."""
        while b"\n" not in self.read:
            try:
                data, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except ConnectionError:
                data, control = b"", []
            for level, kind, given in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.master = array.array("i", given[:4])[0]
            if not data:
                self.gone()
            self.read += data
        line, _, self.read = self.read.partition(b"\n")
        return line

    def outcome(self, line: bytes) -> int | None:
        """The status that a line tells, 128+n for a signal; None if it tells something else. BridgeError for a refusal."""
        verb, _, rest = line.partition(b" ")
        if verb == b"fail":
            self.socket.close()
            raise BridgeError(rest.decode(errors="replace"))
        if verb == b"exit":
            self.socket.close()
            status, _, number = rest.partition(b" ")
            self.signal = int(number or 0)
            return int(status)
        return None

    def wait(self) -> int:
        while True:
            status = self.outcome(self.line())
            if status is not None:
                return status

    def forward(self, number: int, _: object = None) -> None:
        self.send(signal.Signals(number).name[3:])

    def send(self, name: str) -> None:
        try:
            self.socket.sendall(name.encode() + b"\n")
        except OSError:
            pass


def relay(running: Running) -> int:
    """Between this terminal and the command's, until the command ends; gives its status."""
    import fcntl
    import select
    import termios
    import tty

    while running.master is None:
        status = running.outcome(running.line())
        if status is not None:
            return status
    master = running.master

    def resize(*_: object) -> None:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))

    before = termios.tcgetattr(0)
    signal.signal(signal.SIGWINCH, resize)
    connection = running.socket.fileno()
    status, watched = None, [0, master, connection]
    try:
        tty.setraw(0)
        resize()
        while master in watched:
            ready = select.select(watched, [], [], None if status is None else 0.2)[0]
            if status is not None and not ready:
                break  # something that it left behind holds the terminal
            if connection in ready:
                status = running.outcome(running.line())
                watched = [master] if status is not None else watched
            for source, target in ((0, master), (master, 1)):
                if source in ready and source in watched:
                    try:
                        data = os.read(source, 65536)
                    except OSError:
                        data = b""
                    if not data:
                        watched.remove(source)
                    while data:
                        data = data[os.write(target, data) :]
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
    return running.wait() if status is None else status


def main(argv: list[str]) -> int:
    """`client.py FOLDER COMMAND [WORD...]`"""
    folder, name = argv[1], os.path.basename(argv[2])
    words = [os.fsencode(word) for word in argv[3:]]
    terminal = os.isatty(0) and os.isatty(1)
    try:
        told = Told(folder)
        extra = [b"map=" + os.environb.get(b"OUTRIDER_BRIDGE_MAP", b"")]
        extra.append(b"keep=" + os.environb.get(b"OUTRIDER_BRIDGE_KEEP", b""))
        if terminal:
            extra += [b"terminal=1", b"env=TERM=" + os.environb.get(b"TERM", b"")]
        if name == "sbatch":
            words, script = with_script(words)
            extra += script
        request = encode(told, name.encode(), words, os.getcwdb(), dict(os.environb), extra)
        running = Running(folder, request, [0, 1, 2])
        for forwarded in FORWARDED:
            signal.signal(getattr(signal, "SIG" + forwarded), running.forward)
        return relay(running) if terminal else running.wait()
    except BridgeError as error:
        sys.stderr.write(f"outrider bridge: {error}\n")
        return 125


def with_script(words: list[bytes], folder: bytes = b"") -> tuple[list[bytes], list[bytes]]:
    """sbatch's script lies here: the words with its place marked, and the field that carries it."""
    at = script_of(words)
    if at is None:
        return words, []
    try:
        with open(os.path.join(folder, words[at]), "rb") as file:
            script = file.read()
    except OSError as error:
        raise BridgeError(f"cannot read the script {os.fsdecode(words[at])}: {error.strerror}") from None
    marked = list(words)
    marked[at] = Script(os.path.basename(words[at]))
    return marked, [b"script=" + script]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
