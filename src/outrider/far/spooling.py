"""At the submit host: the folders of jobs that outlive the session, and the scheduler's own programs."""

import os
import subprocess
import time
from stat import S_ISREG

from . import processes
from .guardian import SESSION_MARK

PIECE = 4 << 20
SMALL = 1 << 16
"""Bytes of answers that come along with the news of an end."""
TOGETHER = 16 << 20
"""The same of all ends that are told at once; what is beyond that is fetched later."""
STATUS = 100
"""Bytes that are read of how an element has ended: a number or a word."""
PAUSE = 0.03
"""Seconds between looks at the folders; they take a twentieth of the time at the most."""
RESCAN = 1.0
"""Seconds after which a folder is read again though it looks unchanged: times of files are coarse, and those of NFS old."""
PATIENCE = 60.0
"""Seconds that one of the scheduler's programs may take."""


WRITTEN = ("begun", "answer", "errors", "end", "cancelled", "pid")
"""Files of an element that its running has made."""


class Watched:
    """One job's folder, and what of it was told."""

    def __init__(self, path, done):
        self.path = path
        self.stamp = None
        self.read = 0.0
        self.told = set(done)
        self.there = True


class Room:
    """How many bytes of answers may still come along with the news that are told at once."""

    def __init__(self):
        self.left = TOGETHER


class Query:
    """The question to the scheduler that is under way: it may take its time, while ends are noticed."""

    def __init__(self, argv, about):
        self.about = about
        self.until = time.monotonic() + PATIENCE
        self.problem = None
        self.process = None
        self.files = [_unnamed(), _unnamed()]
        try:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=self.files[0], stderr=self.files[1], env=_environment()
            )
        except OSError as error:
            self.problem = str(error)

    def said(self):
        """What it came to; None while it is under way."""
        if self.process is not None and self.process.poll() is None:
            if time.monotonic() < self.until:
                return None
            self.process.kill()
            self.process.wait()
            self.problem = "it has not answered for %g s" % PATIENCE
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()
        if self.process is None or self.problem is not None:
            return {"status": 127, "stdout": "", "stderr": self.problem, "about": self.about}
        return {
            "status": self.process.returncode,
            "stdout": texts[0],
            "stderr": texts[1],
            "about": self.about,
        }


class State:
    """What this far end watches, and the query that is under way."""

    def __init__(self):
        self.watched = {}
        self.queries = []
        self.asked = -1e9


state = State()


def _unnamed():
    import tempfile

    return tempfile.TemporaryFile()


def _environment():
    return {name: value for name, value in os.environ.items() if name != SESSION_MARK}


def home():
    return os.path.join(os.path.expanduser("~"), ".outrider", "spool")


def folder_of(key):
    if not key or "/" in key or key.startswith("."):
        raise ValueError("not a key: %r" % key)
    return os.path.join(home(), key)


# --- submitting ---------------------------------------------------------------------------------------------------


def store(asked):
    """Make a job's folder, fill it, and submit it: {"status", "stdout", "stderr"} of what was run for that."""
    import shlex

    folder = folder_of(asked["key"])
    os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
    os.mkdir(folder, 0o700)
    try:
        files = dict(asked["files"])
        if "start" in files:
            files["start"] = compiled(files["start"])
        files["script"] = asked["script"].replace(asked["mark"], shlex.quote(folder)).encode()
        for name in files:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(files[name])
    except BaseException:
        processes.remove_tree(folder)
        raise
    told = submit(asked)  # whatever interrupts that: the job may be there by now, and needs its folder
    if told["status"] not in (0, None):
        processes.remove_tree(folder)
    return told


def compiled(start):
    """The same start of a far end, with its modules compiled for this Python: half of what a job takes beside its call.

    Kept for the next job. Another Python inside the job takes the sources, which stay in it.
    """
    import marshal
    import zlib
    from _frozen_importlib_external import MAGIC_NUMBER

    size = 8 + int(start[:8])
    sources = marshal.loads(zlib.decompress(start[8:size]))
    path = os.path.join(os.path.dirname(home()), "compiled-" + MAGIC_NUMBER.hex())
    body = _read(path, 0)
    try:
        kept = marshal.loads(zlib.decompress(body))
        kept.pop("codes")
    except (
        ValueError,
        EOFError,
        TypeError,
        KeyError,
        AttributeError,
        zlib.error,
    ):  # none yet, or half of one
        kept = None
    if kept != sources:
        codes = {
            name: compile(text, "<outrider>/%s.py" % name, "exec", dont_inherit=True, optimize=2)
            for name, text in sources.items()
        }
        sources["codes"] = (MAGIC_NUMBER, marshal.dumps(codes))
        body = zlib.compress(marshal.dumps(sources, 2), 1)
        try:
            _write(path, body)
        except OSError:  # another submits at the same time, or the disk is full
            pass
    return b"%08d" % len(body) + body + start[size:]


def submit(asked):
    """Submit what is stored, or those of its elements that are named, as its attempt number `attempt`.

    A shell of its own notes the id: it does so even if this far end is ended meanwhile.
    """
    folder = folder_of(asked["key"])
    attempt = asked["attempt"]
    claim = os.path.join(folder, "elements.%d" % attempt)
    try:
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return {"status": 1, "stdout": "", "stderr": "somebody else has submitted it again meanwhile"}
    aside = os.path.join(folder, "forgotten." + os.urandom(6).hex())
    try:
        _move(_of_elements(folder, asked["forget"]), folder, aside)
        _write(claim, asked["elements"].encode())
        argv = [word.replace(asked["mark"], folder) for word in asked["argv"]]
        argv = [word.replace(asked["home"], home()) for word in argv]
        told = _submitted(os.path.join(folder, "job.%d" % attempt), argv)
    except OSError:
        _move(_names(aside), aside, folder)
        os.unlink(claim)
        raise
    if told["status"] not in (0, None):  # nothing has become of it: what there was holds on
        _move(_names(aside), aside, folder)
        os.unlink(claim)
    processes.remove_tree(aside)
    return told


def _of_elements(folder, indices):
    """Names of the files that the last running of these elements has made."""
    found = {"cancelled"} & _names(folder) if indices else set()
    for name in _names(folder):
        word, *numbers = name.split(".")
        if word in WRITTEN and numbers and _is_number(numbers[0]) and int(numbers[0]) in indices:
            found.add(name)
    return found


def _move(names, source, target):
    if names:
        os.makedirs(target, 0o700, exist_ok=True)  # back, it is there
    for name in names:
        os.rename(os.path.join(source, name), os.path.join(target, name))


NOTE = """
j=$1
shift
"$@" >"$j.part" 2>"$j.said"
s=$?
[ "$s" = 0 ] && cp "$j.part" "$j.new" && mv "$j.new" "$j"
echo "$s" >"$j.status.new" && mv "$j.status.new" "$j.status"
"""


def _submitted(path, argv):
    """Run the scheduler's program by a shell that is nobody's child here, and notes the id in the file `path`.

    status: None if it has not answered in time. It goes on then.
    """
    words = ["sh", "-c", 'sh -c "$@" </dev/null >/dev/null 2>&1 &', "sh", NOTE, "sh", path, *argv]
    started = run(words, adopt=False)
    until = time.monotonic() + PATIENCE
    while started["status"] == 0 and not os.path.exists(path + ".status"):
        if time.monotonic() > until:
            return {"status": None, "stdout": "", "stderr": "it has not answered for %g s" % PATIENCE}
        time.sleep(0.002)
    if started["status"] != 0:
        return started
    told = {"status": int(_read(path + ".status", 0) or 1)}
    for name, end in (("stdout", ".part"), ("stderr", ".said")):
        told[name] = _read(path + end, 0).decode("utf-8", "replace")
    for end in (".part", ".said", ".status"):
        os.unlink(path + end)
    return told


def note(asked):
    """Write down the id of a job that was found again."""
    _write(os.path.join(folder_of(asked["key"]), "job.%d" % asked["attempt"]), asked["text"].encode())


def _write(path, body):
    with open(path + ".part", "wb", opener=_plainly) as file:
        file.write(body)
    os.rename(path + ".part", path)


def run(argv, adopt=True, cwd=None):
    """Run one of the scheduler's programs. adopt: whether what it leaves running is this session's."""
    if not adopt:
        processes.LEAVING.append(argv)
        processes.become_subreaper(0)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(os.environ) if adopt else _environment(),
            start_new_session=True,
            timeout=PATIENCE,
            cwd=cwd,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        status, out, err = 127, b"", str(error).encode()
    finally:
        if not adopt:
            processes.LEAVING.pop()
            processes.become_subreaper()
    return {
        "status": status,
        "stdout": out.decode("utf-8", "replace"),
        "stderr": err.decode("utf-8", "replace"),
    }


# --- watching -----------------------------------------------------------------------------------------------------


def watch(asked):
    """Begin to watch jobs: what is known of each. asked: [(key, elements whose end is known already)]."""
    found = []
    for key, done in asked:
        folder = folder_of(key)
        state.watched[key] = Watched(folder, ["end.%d" % index for index in done])
        names = _names(folder)
        attempts = []
        for number in range(len(names)):
            name = "elements.%d" % number
            if name not in names:
                break
            at = _time(os.path.join(folder, name))
            texts = [_text(os.path.join(folder, found)) for found in (name, "job.%d" % number)]
            attempts.append([*texts, time.time() - at])
        found.append([_read(os.path.join(folder, "record"), 0), attempts])
    return found


def unwatch(keys):
    for key in keys:
        state.watched.pop(key, None)


def look(asked):
    """What is new of all that is watched; waits up to `wait` seconds for it.

    asked["argv"]: the question to the scheduler about the ids in "about", put once in `interval` seconds; what it said is
    told with them.
    """
    until = time.monotonic() + asked["wait"]
    while True:
        began = time.monotonic()
        room = Room()
        news = [told for key in list(state.watched) for told in _news(key, state.watched[key], room)]
        said = _said(asked)
        if news or said or began >= until:
            return {"news": news, "said": said, "now": time.time()}
        took = time.monotonic() - began
        time.sleep(max(0.0, min(max(PAUSE, 20 * took), until - time.monotonic())))


def _said(asked):
    for query in state.queries:
        said = query.said()
        if said is not None:
            state.queries.remove(query)
        return said
    if asked["argv"] and time.monotonic() - state.asked >= asked["interval"]:
        state.asked = time.monotonic()
        state.queries.append(Query(asked["argv"], asked["about"]))
    return None


def _news(key, watched, room):
    """[kind, key, ...] of what has happened in one folder since the last look."""
    try:
        stamp = os.stat(watched.path).st_mtime_ns
    except OSError:
        if watched.there:
            watched.there = False
            yield ["gone", key]
        return
    watched.there = True
    if stamp == watched.stamp and time.monotonic() - watched.read < RESCAN:
        return
    watched.stamp, watched.read = stamp, time.monotonic()
    names = _names(watched.path)
    answers = None
    for name in sorted(names - watched.told):  # beginnings stand before ends
        word, *numbers = name.split(".")
        watched.told.add(name)
        if not all(map(_is_number, numbers)):
            continue
        if word == "begun" and len(numbers) == 2:
            yield ["begun", key, int(numbers[0]), int(numbers[1]), _time(os.path.join(watched.path, name))]
        elif word == "cancelled" and len(numbers) < 2:
            yield ["cancelled", key, int(numbers[0]) if numbers else None]
        elif word == "end" and len(numbers) == 1:
            answers = _answers(names) if answers is None else answers
            yield _end(key, watched.path, int(numbers[0]), answers.get(int(numbers[0]), []), room)
    watched.told &= names


def _is_number(word):
    """Whether it can be of one of our names: the job's own code may put files of any name there."""
    return word.isdigit() and word.isascii() and len(word) < 10


def _end(key, folder, index, answers, room):
    path = os.path.join(folder, "end.%d" % index)
    size = sum(_size(os.path.join(folder, name)) for name in answers)
    small = None
    if size <= min(SMALL, room.left):
        small = [_read(os.path.join(folder, name), 0, SMALL) for name in answers]
        room.left -= size
    errors = tail([key, "errors.%d" % index, 0 if small == [b""] else 4096])
    end = _read(path, 0, STATUS).decode("ascii", "replace").strip()
    return ["end", key, index, end, _time(path), small, errors]


def _answers(names):
    """{element: names of its answers, those of earlier attempts first}"""
    found = {}
    for name in names:
        word, *numbers = name.split(".")
        if word == "answer" and len(numbers) == 2 and all(map(_is_number, numbers)):
            found.setdefault(int(numbers[0]), []).append((int(numbers[1]), name))
    return {index: [name for _, name in sorted(pairs)] for index, pairs in found.items()}


def answers(asked):
    """[(name, size)] of the answers of one element so far. asked: (key, element)."""
    key, index = asked
    folder = folder_of(key)
    names = _answers(_names(folder)).get(index, [])
    return [[name, _size(os.path.join(folder, name))] for name in names]


def piece(asked):
    """Up to 4 MiB of a file of a job. asked: (key, name, offset)."""
    key, name, at = asked
    return _read(_inside(key, name), at)


def tail(asked):
    """The end of a file of a job. asked: (key, name, bytes or 0 for 64 KiB)."""
    key, name, size = asked
    path = _inside(key, name)
    size = size or 65536
    return _read(path, max(0, _size(path) - size), size)


def _inside(key, name):
    if "/" in name or name.startswith("."):
        raise ValueError("not a file of a job: %r" % name)
    return os.path.join(folder_of(key), name)


def _names(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _time(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _size(path):
    """Bytes of a file; 0 of what is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if S_ISREG(found.st_mode) else 0


def _read(path, at, size=PIECE):
    """Of a file, and of nothing else that the job's own code may have put in its place: a link, or a FIFO to wait for."""
    try:
        with open(path, "rb", opener=_plainly) as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                return b""
            file.seek(at)
            return file.read(size)
    except OSError:
        return b""


def _text(path):
    return _read(path, 0).decode("utf-8", "replace")


def _plainly(path, flags):
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)


# --- the rest -----------------------------------------------------------------------------------------------------


def cancel(asked):
    """Run the scheduler's own words for it. A note beside the job says who ended it: a signal does not.

    asked: {"key", "indices": the elements, None for all, "argv"}
    """
    folder = folder_of(asked["key"])
    indices = asked["indices"]
    if not os.path.isdir(folder):
        return {"status": 0, "stdout": "", "stderr": ""}
    for name in ["cancelled"] if indices is None else ["cancelled.%d" % index for index in indices]:
        with open(os.path.join(folder, name), "w", opener=_plainly):
            pass
    return run(asked["argv"], adopt=False, cwd=folder)  # it may leave who sees to the end


def room(key):
    """Bytes that are free on the disk of a job's folder."""
    try:
        found = os.statvfs(folder_of(key))
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize


def clean(key):
    """Remove a job's folder."""
    state.watched.pop(key, None)
    processes.remove_tree(folder_of(key))
