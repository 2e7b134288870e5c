"""What the contenders run at the far end: standard library only, so that every one of them can send it."""

import os

MB = 1 << 20
_held = None


def add(a, b):
    return a + b


def pid():
    return os.getpid()


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as above


def peak():
    """Bytes of memory that this process had at the most."""
    return _status("VmHWM")


def resident():
    """Bytes of memory that this process has now."""
    return _status("VmRSS")


def _status(name):
    with open("/proc/self/status") as lines:  # noqa: PTH123 - pathlib would be more memory to measure
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024


def make(kind, size):
    """A payload that nothing on the way can compress, made without using more memory than it has itself."""
    block = os.urandom(MB)
    if kind == "bytes":
        return block * (size // MB)
    import numpy

    array = numpy.empty(size, numpy.uint8)
    array.reshape(-1, MB)[:] = numpy.frombuffer(block, numpy.uint8)
    return array.view(numpy.float64)


def hold(kind, size):
    global _held
    _held = make(kind, size)


def held():
    return _held


def extend_path(folder):
    """Let packages of `folder`, numpy say, be imported where there are none of the kind."""
    import sys

    sys.path.append(folder)
