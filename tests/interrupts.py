"""Raises KeyboardInterrupt in the main thread as Ctrl-C does: anywhere in our code where Python looks for signals."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import outrider

OURS = str(Path(outrider.__file__).parent)


class _Interrupter:
    """A tracer that raises at the `at`th such point: a function's start, a loop's end, or after a call of C code."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.returned = False
        self.previous: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename.startswith(OURS):
            frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.step

    def step(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "return":
            self.previous.pop(frame, None)
            self.returned = True
        elif event == "opcode":
            before, now = self.previous.get(frame, ""), _names(frame.f_code)[frame.f_lasti]
            called = before.startswith("CALL") and not self.returned
            self.returned = False
            self.previous[frame] = now
            if now == "RESUME" or called or before.startswith("JUMP_BACKWARD"):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt
        return self.step


_known: dict[CodeType, dict[int, str]] = {}


def _names(code: CodeType) -> dict[int, str]:
    if code not in _known:
        _known[code] = {one.offset: one.opname for one in dis.get_instructions(code)}
    return _known[code]


def interrupted(at: int, work: Callable[[], object]) -> bool:
    """Do `work`, with a Ctrl-C at its `at`th point; False if it has not so many."""
    before = sys.gettrace()
    interrupter = _Interrupter(at)
    sys.settrace(interrupter)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    assert interrupter.left > 0, "the Ctrl-C was swallowed"
    return False
