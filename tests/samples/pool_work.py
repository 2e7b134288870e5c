"""What the tests of executors have called elsewhere."""

import os
import time
from pathlib import Path

STATE = []


def capture(*args, **kwargs):
    return args, kwargs


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def nap_then_touch(seconds, path):
    time.sleep(seconds)
    Path(path).touch()


def touch(path):
    Path(path).touch()


def until(path, value=None):
    """Wait until a file is there, which says that this may end; not for ever."""
    for _ in range(6000):
        if Path(path).exists():
            return value
        time.sleep(0.01)
    raise TimeoutError(path)


def begun(started, path):
    Path(started).touch()
    return until(path)


def who():
    return os.getpid()


def where():
    return os.environ.get("SLURM_STEP_ID"), os.getcwd(), os.environ.get("COLOUR")  # noqa: PTH109


def slow_who():
    time.sleep(0.3)
    return os.getpid()


def kill_parent():
    os.kill(os.getppid(), 9)
    time.sleep(60)


def spin(seconds):
    """Compute, and hold the interpreter's lock, for so long."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def remember(*values):
    STATE.extend(values)


def remembered():
    return list(STATE)


def fail(*_):
    raise ValueError("no good")


class Payload:
    def method(self):
        return "done"

    def fails(self):
        raise ZeroDivisionError("by intent")
