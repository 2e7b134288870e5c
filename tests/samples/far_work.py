"""What the tests call at far ends: no import of pytest, since the far end need not have it."""

import dataclasses
import gc
import importlib
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path


def add(a, b=0):
    return a + b


def where():
    return os.getcwd()  # noqa: PTH109  # a text


def peak_memory():
    """The most memory that this process has held so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def prints(text):
    print(text)
    print("to stderr", file=sys.stderr)
    os.write(1, b"past python\n")
    subprocess.run(["echo", "from a child"], check=True)
    return len(text)


class Trouble(Exception):
    def __init__(self, what, code):
        super().__init__(what, code)
        self.code = code


def raises(what="trouble"):
    raise Trouble(what, 7)


class Unpicklable(Exception):
    def __init__(self, what):
        super().__init__(what)
        self.handle = sys.stdout.buffer


def raises_unpicklable():
    raise Unpicklable("cannot travel")


async def later(value):
    return value


def loop_for(seconds):
    """Python code that never waits."""
    end = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < end:
        turns += 1
    return turns


def slowly(value, seconds):
    time.sleep(seconds)
    return value


def prints_for(seconds):
    """Prints without end, a long and a short line by turns."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print("x" * 20_000)
        print("short", file=sys.stderr)


def refuses_to_end():
    """Python code that goes on whatever is raised in it."""
    while True:
        try:
            loop_for(1000)
        except BaseException:
            pass


def returncode_of(argv):
    return subprocess.run(argv).returncode


def starts_and_sleeps(seconds):
    subprocess.Popen(["sleep", seconds])
    subprocess.Popen(["setsid", "sleep", seconds])
    time.sleep(1000)


def busy_threads():
    """Threads that run a call's Python code just now, besides the one that asks."""
    own = sys._getframe()
    names = ("loop_for", "prints_for")
    found = []
    for frame in sys._current_frames().values():
        while frame is not None and frame is not own:
            if frame.f_code.co_name in names:
                found.append(frame.f_code.co_name)
            frame = frame.f_back
    return found


def start_daemons(seconds):
    """Children of every kind that a careless program leaves behind."""
    subprocess.Popen(["setsid", "sleep", seconds])
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep %s; sleep %s" % (seconds, seconds)])
    os.system("(setsid sleep %s &)" % seconds)
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.execvp("sleep", ["sleep", seconds])
    return os.getpid()


def die_with_children(seconds):
    subprocess.Popen(["sleep", seconds])
    os.kill(os.getpid(), 9)
    os._exit(137)  # PID 1 of a container cannot be killed from inside


def stubborn():
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass


class Lab:
    def __init__(self):
        self.results = []
        self.scratch = "to be deleted"
        self.me = self

    def run(self, seed):
        self.results.append(seed)
        del self.scratch
        self.added = {"seed": seed}
        return self

    def fail(self):
        self.results.append("changed before failing")
        raise Trouble("lab", 1)


class Slotted:
    __slots__ = ("gone", "kept", "new")

    def __init__(self):
        self.kept, self.gone = 1, 2

    def change(self):
        self.kept = 10
        del self.gone
        self.new = 3


class WithState:
    """Keeps something that does not travel, as objects with locks or connections do."""

    def __init__(self):
        self.value = 1
        self.handle = sys.stdout

    def __getstate__(self):
        return {"value": self.value}

    def __setstate__(self, state):
        self.value = state["value"]

    def change(self):
        self.value += 1


class DropsHandle:
    def __init__(self):
        self.value = 1
        self.handle = sys.stdout

    def __getstate__(self):
        return {"value": self.value}

    def change(self):
        self.value += 1


@dataclasses.dataclass
class Point:
    x: int = 0
    tags: list = dataclasses.field(default_factory=list)

    def move(self, by):
        self.x += by
        self.tags.append(by)
        return self.x


class Growing(list):
    def grow(self, item):
        self.append(item)
        self.extra = item


class Submission:
    """Zip in, zip out, as graders do."""

    def __init__(self, archive):
        self.archive = io.BytesIO(archive)
        self.log = io.StringIO()

    def grade(self):
        with zipfile.ZipFile(self.archive) as incoming:
            names = incoming.namelist()
        self.archive = io.BytesIO()
        with zipfile.ZipFile(self.archive, "w") as outgoing:
            outgoing.writestr("grade.txt", "A")
        self.log.write("graded %s" % ", ".join(names))
        return names


def edit(path, fail=False):
    with Path(path).open("a") as file:
        file.write("changed there\n")
    if fail:
        raise Trouble("after the change", 2)


def closes_its_output():
    os.close(1)
    os.close(2)


def idle_cpu(seconds):
    """Seconds of processor time that this process uses while nothing is asked of it."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def pid_slowly(_):
    time.sleep(0.3)
    return os.getpid()


def die_once(mark):
    """Takes its far end along, the first time that it is called with this mark."""
    if not os.path.exists(mark):  # noqa: PTH110  # a text
        open(mark, "w").close()  # noqa: PTH123
        os._exit(9)
    return "survived"


class Case:
    """Its state is plain data."""

    def __init__(self):
        self.seen = ["a"]
        self.open = True

    def judge(self, what):
        self.seen.append(what)
        self.__dict__.pop("open", None)
        raise Trouble("judge left", 2)


def counting(stop):
    yield from range(stop)


memory = {}


def remember(value):
    memory["value"] = value


def remembered():
    return memory.get("value")


def prints_past_python(mark):
    for _ in range(3):
        print("python-" + mark, flush=True)
        os.write(1, b"raw-%s\n" % mark.encode())
        subprocess.run(["echo", "child-" + mark])


def crash():
    import ctypes

    ctypes.string_at(0)


def kill_itself():
    os.kill(os.getpid(), 9)
    time.sleep(10)


def abort():
    os.abort()


def leave():
    os._exit(3)


def forks_and_returns():
    return "parent" if os.fork() else "child"


def allocate(size):
    return len(bytearray(size))


def spin():
    while True:
        pass


def many_items(count, size):
    for _ in range(count):
        yield bytes(size)


def value_of(module):
    """What a module of the caller's says, imported by a name that only this call knows."""
    return importlib.import_module(module).value


def start_slowly(seconds):
    """Have every process start as on a machine that is busy."""
    start = subprocess.Popen.__init__

    def slowly(self, *args, **kwargs):
        time.sleep(seconds)
        start(self, *args, **kwargs)

    subprocess.Popen.__init__ = slowly


def asks_for(seconds):
    """Read the stream most of the time, as each import of what is nowhere asks the near end."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        try:
            importlib.import_module("nowhere_at_all_%d" % number)
        except ImportError:
            pass
    return number


def start_ending_with(status):
    """Start a process that ends, and keep it for a later call."""
    global _STARTED
    _STARTED = subprocess.Popen(["sh", "-c", "exit %d" % status])


def wait_for_it():
    return _STARTED.wait()


def starts_and_loops(argument):
    subprocess.Popen(["sleep", argument])
    loop_for(1000)


def keep_computing():
    """Leave a thread behind that computes, so that every other waits for its turn."""
    threading.Thread(target=loop_for, args=(1000,), daemon=True).start()


def is_main_thread_after(seconds):
    time.sleep(seconds)
    return threading.current_thread() is threading.main_thread()


def few_threads():
    """Leave memory for a few threads only."""
    import resource

    threading.stack_size(1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


def under_way():
    """What the far end remembers of calls, by name."""
    calls = sys.modules["_outrider_far.main"].__dict__
    far = next(one for one in gc.get_objects() if type(one) is calls["Far"])
    return {
        "calls": len(far.calls.threads),
        "cancelled": len(far.calls.cancelled),
        "interrupt": len(far.calls.interrupt),
        "unsent": len(far.output._sent.keys() | far.output._taken.keys()),
        "owners": len(far.output._owners),
        "starting": len(far.starting),
    }


def ends_a_forked_child():
    """(How the child ended, whether another process of the call goes on)."""
    import multiprocessing

    other = subprocess.Popen(["sleep", "1000"])
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    child.start()
    time.sleep(0.2)
    child.terminate()
    child.join(10)
    time.sleep(0.2)
    goes_on = other.poll() is None
    other.kill()
    other.wait()
    return child.exitcode, goes_on


def comes_back_twice(number):
    child = os.fork()
    if not child:
        return "the child"
    assert os.waitpid(child, 0)[1] == 0
    return number


def imports_in_a_forked_child():
    """What an import says there that only the near end could answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            import nowhere_at_all  # noqa: F401
        except ImportError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        os.waitpid(child, 0)
        return os.read(reader, 1000).decode()
    finally:
        os.close(reader)


def prints_in_forked_children(lines):
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            try:
                for number in range(lines):
                    print("line %d" % number + "x" * 200)
            finally:
                os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def leave_an_orphan():
    os.system("sleep 0.05 >/dev/null 2>&1 &")


def zombies():
    """Children of this process that have ended and that nobody has waited for."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += words[0] == "Z" and int(words[1]) == os.getpid()
    return found


def fork_ending_with(status):
    child = os.fork()
    if not child:
        os._exit(status)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def print_lines(count, size):
    """Print `count` lines of `size` letters."""
    line = "x" * size + "\n"
    for _ in range(count):
        sys.stdout.write(line)


def note_and_sleep(path, seconds):
    """How often it has been run by now."""
    with Path(path).open("a") as file:
        file.write("run\n")
    time.sleep(seconds)
    return len(Path(path).read_text().split())


def lost_once(path):
    """Fails, the first time, for a reason that trying again can help with; no path: never."""
    import outrider

    if path == "never":
        return "at once"
    if Path(path).exists():
        return "again"
    Path(path).touch()
    raise outrider.Lost("the node went away")


def fails_first(path):
    if Path(path).exists():
        return "again"
    Path(path).touch()
    raise ValueError("the first time")
