"""What `outrider demo` calls: plain functions, of the standard library alone.

A copy of this file is written to a temporary folder and imported from there, as a script of your own would
be: what a far end lacks of it travels along.
"""

import os
import sys
import time


def hello(name: str, steps: int = 3) -> dict:  # type: ignore[type-arg]  # far Pythons begin at 3.8
    """Says where it runs while it runs, and returns it."""
    for step in range(1, steps + 1):
        print(f"step {step} of {steps} for {name}")
        time.sleep(0.2)
    print("this line went to stderr", file=sys.stderr)
    return {
        "host": os.uname().nodename,
        "uid": os.getuid(),
        "folder": os.getcwd(),  # noqa: PTH109  # a far end needs no pathlib for this
        "python": ".".join(map(str, sys.version_info[:3])),
        "DEMO": os.environ.get("DEMO"),
    }


def add(left: int, right: int) -> int:
    return left + right


def share(total: int, people: int) -> float:
    """Raises ZeroDivisionError if nobody is there."""
    return total / people


class Counter:
    """An object whose state changes at the far end."""

    def __init__(self) -> None:
        self.count = 0
        self.places: list = []  # type: ignore[type-arg]

    def visit(self) -> str:
        self.count += 1
        self.places.append(os.uname().nodename)
        return f"visit {self.count}"
