"""The far side of a stream that is made of single visits: keeps a command running, and its streams in files between them.

Standard library only, Python 3.8 or newer, and one file: the first visit brings it along, and runs it from the folder of
the stream after that. Each visit is one process: its arguments are what is asked, as base64 of JSON, and pieces of stdin, as
base64 (`.`: there is no more). It prints one answer.
Visits may come twice (whoever sent them got no answer), from several machines that share the home folder, and in any order.

In the folder, ~/.outrider/gateway/KEY, which nobody else may enter:
  in.N        a piece for the command's stdin; an empty one ends it. `fed` holds the number of the next one that it takes
  up.N        the same, brought as a file by other means, while it is perhaps half written: its length first, 8 bytes
  out.N       a piece of what it printed, the stream's letter (o, e) first; a visit that has it removes it
  end         its exit status, once all pieces are there
  heard, beat changed by each visit, and by the keeper, the process that stays: so each notices that the other has gone
  stop        ends the command; the folder goes when all is over, and KEY.over is left beside it, for a while: the first
              visit may come again, and must not begin anew
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

PIECE = 1 << 18
"""Bytes of a piece of output at the most."""
AHEAD = 32
"""Pieces of output that wait at the most."""
BEAT = 1.0
LATE = 600.0
"""Seconds that the first visit may come again after all was over."""
LEFT = 86400.0
"""Seconds without a beat after which a folder is one that a killed keeper left."""
LINGER = 5.0
"""Seconds that what a command left behind may hold its streams open."""
GRACE = 3.0


def write(name: str, data: bytes) -> None:
    """A file that is there whole, or not at all."""
    fresh = "%s.%d.new" % (name, os.getpid())
    with open(fresh, "wb") as file:
        file.write(data)
    os.rename(fresh, name)


def read(name: str) -> bytes | None:
    try:
        with open(name, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


# --- a visit ----------------------------------------------------------------------------------------------------------


def visit(asked: dict[str, Any], brought: list[str], source: bytes) -> dict[str, Any]:
    """Do what is asked and tell what there is to tell; a dict, whose `data` are the bytes of all pieces in a row."""
    folder = os.path.join(os.path.expanduser("~"), ".outrider", "gateway", asked["key"])
    if "words" in asked:
        begin(folder, asked, source)
    try:
        os.chdir(folder)
    except OSError:
        return {"gone": True}
    write("heard", os.urandom(8))
    if asked.get("stop"):
        write("stop", b"")
    for number, data in zip(asked["pieces"], brought):
        take(number, data)
    fed = int(read("fed") or 0)
    have = asked["have"]
    if have is None:  # a visit that only brings something
        return {"fed": fed}
    for number in range(have - 1, -1, -1):
        if not forget("out.%d" % number):
            break
    wait_for("out.%d" % have, asked["wait"])
    beat = (read("beat") or b"").decode()
    return dict(gathered(have, asked["most"]), fed=fed, beat=beat, folder=folder)


def forget(name: str) -> bool:
    try:
        os.unlink(name)
    except FileNotFoundError:
        return False
    return True


def take(number: int, data: str) -> None:
    """Put a piece where the keeper finds it, unless it has had it."""
    if number >= int(read("fed") or 0):
        write("in.%d" % number, b"" if data == "." else base64.b64decode(data))


def wait_for(name: str, wait: float) -> None:
    """Wait for a piece, or the end, for so many seconds."""
    until, pause = time.monotonic() + wait, 0.005
    while not (os.path.exists(name) or os.path.exists("end")) and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def gathered(have: int, most: int) -> dict[str, Any]:
    """The pieces from `have` on, with `most` bytes at the most, and how it ended, if these are the last."""
    end = read("end")  # looked at first: all pieces are there when it is
    pieces: list[list[Any]] = []
    data = b""
    while len(data) < most:
        piece = read("out.%d" % (have + len(pieces)))
        if piece is None:
            break
        pieces.append([piece[:1].decode(), len(piece) - 1])
        data += piece[1:]
    last = end is not None and not os.path.exists("out.%d" % (have + len(pieces)))
    return {"pieces": pieces, "data": data, "end": int(end or 0) if last else None}


def begin(folder: str, asked: dict[str, Any], source: bytes) -> None:
    """Make the folder and start the keeper, once only."""
    above = os.path.dirname(folder)
    os.makedirs(above, mode=0o700, exist_ok=True)
    if os.path.exists(folder + ".over"):
        return
    fresh = "%s.%d.new" % (folder, os.getpid())
    os.mkdir(fresh, 0o700)
    write(os.path.join(fresh, "there.py"), source)
    try:
        os.rename(fresh, folder)  # onto one that holds something, this fails: the visit came before
    except OSError:
        shutil.rmtree(fresh, True)
        return
    sweep(above, os.stat(folder).st_mtime)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            Keeper(folder, asked).keep()
    finally:
        os._exit(0)


def sweep(above: str, now: float) -> None:
    """Remove what is old. `now` is a file's time: the clock of whoever keeps the files may be another."""
    for entry in os.scandir(above):
        with contextlib.suppress(OSError):
            age = now - entry.stat(follow_symlinks=False).st_mtime
            if entry.name.endswith(".over") and age > LATE:
                os.unlink(entry.path)
            elif entry.is_dir(follow_symlinks=False) and age > LEFT:
                shutil.rmtree(entry.path, True)


# --- the keeper -------------------------------------------------------------------------------------------------------


class Keeper:
    """The process that stays: the command's parent, between its pipes and the files."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        self.folder = folder
        self.words = [base64.b64decode(word) for word in asked["words"]]
        self.patience = asked["patience"]
        self.count = 0  # of the pieces of output
        self.counting = threading.Lock()
        self.over = self.failed = False
        self.heard: bytes | None = None
        self.changed = time.monotonic()
        self.beats = 0

    def keep(self) -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.closerange(3, 1024)
        os.chdir(self.folder)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self.run()
        finally:
            with contextlib.suppress(OSError):  # first of all: a visit that begins must find one of the two
                write(self.folder + ".over", b"")
            shutil.rmtree(self.folder, True)

    def run(self) -> None:
        try:
            process = subprocess.Popen(
                self.words,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=os.path.expanduser("~"),
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )
        except OSError as error:
            name = self.words[0].decode("utf-8", "backslashreplace")
            missing = isinstance(error, FileNotFoundError)
            why = "command not found" if missing else error.strerror
            self.add(b"e", ("sh: %s: %s\n" % (name, why)).encode())
            self.tell_end(127 if missing else 126)
            return
        assert process.stdin and process.stdout and process.stderr
        pairs = ((b"o", process.stdout), (b"e", process.stderr))
        readers = [threading.Thread(target=self.pour, args=pair, daemon=True) for pair in pairs]
        for thread in [threading.Thread(target=self.feed, args=(process.stdin,), daemon=True), *readers]:
            thread.start()
        ended = False
        try:
            ended = self.watch(lambda: process.poll() is None)
            until = time.monotonic() + LINGER
            ended = ended and self.watch(lambda: any(map(alive, readers)) and time.monotonic() < until)
        finally:
            self.over = True
            if not ended:
                self.end(process)
        if ended:
            status = process.returncode
            self.tell_end(status if status >= 0 else 128 - status)

    def tell_end(self, status: int) -> None:
        with self.counting:
            write("end", b"%d" % status)
        self.watch(lambda: True)  # until whoever visits has all

    def watch(self, going: Callable[[], bool]) -> bool:
        """Wait while `going()`; False as soon as somebody wants the end, or nobody has come for too long."""
        beaten = 0.0
        while going():
            now = time.monotonic()
            if now - beaten > BEAT:
                beaten, self.beats = now, self.beats + 1
                write("beat", b"%d %d" % (os.getpid(), self.beats))
            heard = read("heard")
            if heard != self.heard:
                self.heard, self.changed = heard, now
            if self.failed or os.path.exists("stop") or now - self.changed > self.patience:
                return False
            time.sleep(0.05)
        return True

    def feed(self, stdin: IO[bytes]) -> None:
        """The pieces that visits brought, in order, to the command."""
        number, pause = 0, 0.002
        while not self.over:
            name = "in.%d" % number
            data = read(name)
            if data is None:
                data = uploaded("up.%d" % number)
            if data is None:
                time.sleep(pause)
                pause = min(1.5 * pause, 0.1)
                continue
            pause = 0.002
            try:
                write_all(stdin, data) if data else stdin.close()
            except (OSError, ValueError):
                pass  # it does not read any more
            number += 1
            with self.failing():
                write("fed", b"%d" % number)
            forget(name)
            forget("up.%d" % (number - 1))

    def pour(self, letter: bytes, stream: IO[bytes]) -> None:
        """What the command prints, into pieces. It is held up while too many wait."""
        while True:
            data = stream.read(PIECE)
            if not data:
                return
            with self.failing():
                self.add(letter, data)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """The disk is full, or the folder is gone: nothing more can be told."""
        try:
            yield
        except OSError:
            self.failed = True

    def add(self, letter: bytes, data: bytes) -> None:
        with self.counting:
            while os.path.exists("out.%d" % (self.count - AHEAD)) and not self.over:
                time.sleep(0.02)
            if not os.path.exists("end"):
                write("out.%d" % self.count, letter + data)
                self.count += 1

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """As when a connection breaks: first its stdin ends, then it is asked to, then made to."""
        with contextlib.suppress(OSError):
            process.stdin and process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                try:
                    os.killpg(process.pid, number)
                except OSError:
                    return  # nothing is left of it
            until = time.monotonic() + GRACE
            while time.monotonic() < until:
                if process.poll() is not None and not group_lives(process.pid):
                    return
                time.sleep(0.02)


def uploaded(name: str) -> bytes | None:
    data = read(name)
    if data is None or len(data) < 8 or len(data) - 8 < int.from_bytes(data[:8], "big"):
        return None
    return data[8:]


def write_all(stream: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def alive(thread: threading.Thread) -> bool:
    return thread.is_alive()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def main() -> None:
    asked = json.loads(base64.b64decode(sys.argv[1]))
    try:
        with open(__file__, "rb") as file:
            source = file.read()
    except NameError:  # the first visit: it was handed in
        source = SOURCE
    told = visit(asked, sys.argv[2:], source)
    told_data = told.pop("data", b"")
    words = (json.dumps(told).encode(), told_data)
    sys.stdout.write(
        "\noutrider-gateway %s outrider-end\n" % " ".join(base64.b64encode(w).decode() for w in words)
    )
    sys.stdout.flush()


SOURCE: bytes = globals().get("SOURCE", b"")
if __name__ == "__main__":
    main()
