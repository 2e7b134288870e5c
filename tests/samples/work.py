"""Work to do at far ends. No third-party imports: far ends get this module from the near end as its source."""

import os
from pathlib import Path


class Counter:
    """An object whose state changes, in every way that a state can."""

    def __init__(self):
        self.value = 0
        self.draft = "to be deleted"

    def add(self, amount):
        self.value += amount
        self.added = [amount]
        del self.draft
        return self.value

    def fail(self, message):
        self.value = -1
        raise LookupError(message)


def where():
    """What tells places apart."""
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "folder": str(Path.cwd()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "host": os.uname().nodename,
    }


class Place:
    """The same as a method, for those who can only invoke."""

    def where(self):
        return where()


class Spy:
    """Remembers which processes it was run in."""

    def __init__(self):
        self.pids = []

    def run(self):
        self.pids.append(os.getpid())


def fail(message):
    raise LookupError(message)
