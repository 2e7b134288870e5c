"""An invoked object's state: brought back apart from the value, so that the near end's object can take it over."""

from . import packing
from .pickling import pickle

SELF = "self"
"""The persistent id that stands for the invoked object itself, so that it keeps its identity."""


class StatePickler(pickle.Pickler):
    """Packs an answer in which the invoked object is only named, not copied."""

    def __init__(self, file, subject, buffer_callback):
        super().__init__(file, 5, buffer_callback=buffer_callback)
        self.subject = subject

    def persistent_id(self, value):
        return SELF if value is self.subject else None


def state_of(subject):
    """(state, list items, dict items) that bring another copy of `subject` to where this one is."""
    reduced = subject.__reduce_ex__(4)
    if isinstance(reduced, str):
        return None, None, None
    parts = [*reduced, None, None, None, None, None][2:5]
    return (
        parts[0],
        None if parts[1] is None else list(parts[1]),
        None if parts[2] is None else list(parts[2]),
    )


def pack_state(value, subject):
    def make(file, protocol, buffer_callback):
        return StatePickler(file, subject, buffer_callback)

    return packing.dump((value, state_of(subject)), make)
