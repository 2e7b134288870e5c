"""Takes a job's output files when all in its slot is dead: through descriptors, following no link, regular files only."""

import os
import stat

from . import syscalls

MOST = 64 << 20
"""Bytes of all outputs together, at the most."""


def collect(box, folder, paths, limit=MOST):
    """({path: contents}, {path: why not}). `box` is the open folder; a path is inside, relative or below `folder`."""
    outputs, refused = {}, {}
    for path in paths:
        try:
            contents = _contents(box, inside(folder, path), limit)
        except (OSError, ValueError) as error:
            refused[path] = getattr(error, "strerror", None) or str(error)
            continue
        limit -= len(contents)
        outputs[path] = contents
    return outputs, refused


def inside(folder, path):
    """The names of `path` below the box."""
    if os.path.isabs(path):
        if not (path + "/").startswith(folder + "/"):
            raise ValueError("it is not below the job's folder %s" % folder)
        path = path[len(folder) :]
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or ".." in names:
        raise ValueError("it is not a path below the job's folder")
    return names


def _contents(box, names, limit):
    fd = _open(box, names)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is not a regular file")
        if about.st_size > limit:
            raise ValueError("it is larger than what is left of %d bytes for all outputs" % MOST)
        pieces = []
        while limit >= 0:
            piece = os.read(fd, min(1 << 20, limit + 1))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            limit -= len(piece)
        raise ValueError("it is larger than it said")
    finally:
        os.close(fd)


def _open(box, names):
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = syscalls.open_beneath(box, "/".join(names), flags)
    if fd is not None:
        return fd
    at = os.dup(box)
    for name in names[:-1]:
        try:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)
        at = below
    try:
        return os.open(names[-1], flags, dir_fd=at)
    finally:
        os.close(at)
