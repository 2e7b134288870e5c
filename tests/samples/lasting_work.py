"""What tests call at far ends that are lost, or kept: each run leaves a line, so that runs can be counted."""

import os
import signal
import time
from pathlib import Path

from outrider import idempotent


def note(path):
    """Count the runs of a call: one more line in a file."""
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


@idempotent
def die_at_first(path, value=7):
    """The far end is killed in the midst of the first run; the second goes through."""
    if note(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@idempotent
def always_die(path):
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)


@idempotent
def slow(path, duration=1.0):
    runs = note(path)
    time.sleep(duration)
    return runs


@idempotent
def numbers(path):
    yield 1
    note(path)
    time.sleep(60)


@idempotent
def prints_and_dies(path):
    print("run", note(path), flush=True)
    time.sleep(0.2)
    if Path(path).stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def abs_of(number: int):
    time.sleep(0.02)
    return abs(number)


class Counter:
    """Counts, after a while."""

    def __init__(self):
        self.count = 0

    def slowly(self, duration):
        time.sleep(duration)
        self.count += 1
        return self.count


def sleep_and_note(path, duration):
    note(path)
    time.sleep(duration)


def open_files():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


def blob(size, after=0):
    time.sleep(after)
    return b"x" * size


def echo(value):
    return value


def imports_later(path, name):
    """Import a module of the near end's once a file is there."""
    import importlib

    Path(path + ".begun").touch()
    while not Path(path).exists():
        time.sleep(0.05)
    return importlib.import_module(name).__name__
