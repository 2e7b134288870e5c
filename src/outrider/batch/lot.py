"""A lot: what was submitted together, one job or an array, as the spool and the scheduler tell of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from outrider.batch.element import Element
from outrider.batch.live import Live
from outrider.batch.schedulers.base import Scheduler
from outrider.batch.states import Standing, State
from outrider.far import wire
from outrider.harmless import printable

MOST = 4_000_001
"""Items of an array at the most, as many as the largest array of Slurm has: the record comes from where the jobs run."""
NEVER = 60.0
"""Seconds after which a submission that left no id, and that the scheduler does not know, was none."""


@dataclass(frozen=True)
class Record:
    """What stands beside the job in its folder. items: how many calls, `chunk` of them in each element; 0: no array.

    label: what is called, for people.
    """

    kind: str = "call"
    items: int = 0
    chunk: int = 1
    name: str = ""
    tags: tuple[str, ...] = ()
    made: float = 0.0
    checkpoint: bool = False
    command: tuple[str, ...] = ()
    label: str = ""

    @property
    def indices(self) -> tuple[int, ...]:
        """Of all elements."""
        return tuple(range(-(-self.items // self.chunk))) if self.items else (0,)

    def has(self, indices: list[int]) -> bool:
        """Whether these can be elements of an array, or none of a single job."""
        return not indices or (min(indices) >= 0 and max(indices) * self.chunk < self.items)

    def as_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, text: bytes) -> Record:
        """As it was written; what a later version has added is left out. ValueError for what was never written so."""
        found = json.loads(text)
        plain = cls()
        known: dict[str, Any] = {name: found[name] for name in vars(plain) if name in found}
        for name in ("tags", "command"):
            known[name] = tuple(map(str, known.get(name, ())))
        if "made" in known:
            known["made"] = float(known["made"])
        record = cls(**known)
        strange = [name for name in known if type(getattr(record, name)) is not type(getattr(plain, name))]
        if strange or not (0 <= record.items <= MOST and 1 <= record.chunk <= MOST):
            raise ValueError(f"a record with strange values of {', '.join(strange) or 'items or chunk'}")
        return record


@dataclass
class Lot:
    """Changed by whoever brings news, under `changed`; who waits is told there.

    known: its ids are known. trouble: why nothing is learned of it just now.
    """

    key: str
    scheduler: Scheduler
    limit: int
    record: Record | None = None
    elements: dict[int, Element] = field(default_factory=dict)
    lives: dict[int, Live] = field(default_factory=dict)
    base_ids: tuple[str, ...] = ()
    attempts: int = 0
    lost: Standing | None = None
    unsettled: float | None = None
    asked_at: float = -1e9
    trouble: BaseException | None = None
    clock: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    noted: set[int] = field(default_factory=set)

    # --- what is told -------------------------------------------------------------------------------------------

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to any of its elements."""
        if self.lost is not None:
            return True
        return bool(self.elements) and all(element.final for element in self.elements.values())

    def standing(self, index: int) -> Standing:
        """Of one element."""
        if self.lost is not None and not (index in self.elements and self.elements[index].final):
            return self.lost
        return self.elements[index].standing if index in self.elements else Standing(State.PENDING)

    def item_standing(self, index: int, call: int) -> Standing:
        """Of one call of an element: others of it may have failed."""
        standing = self.standing(index)
        live = self.lives.get(index)
        if not standing.state.final or self.record is None or self.record.kind == "command" or live is None:
            return standing
        answer = live.answers.get(call)
        if answer is None:
            return standing
        return (
            Standing(State.COMPLETED) if answer.kind == wire.RESULT else Standing(State.FAILED, "it raised")
        )

    def live(self, index: int) -> Live:
        if index not in self.lives:
            command = self.record is not None and self.record.kind == "command"
            self.lives[index] = Live(self.key, index, command, self.limit)
        return self.lives[index]

    def ids(self, indices: Iterable[int] | None = None) -> list[str]:
        """The scheduler's ids of elements; None: of all together, as it takes them."""
        if indices is None:
            return list(self.base_ids)
        return [self.elements[index].ident for index in indices if self.elements[index].ident]

    def times(self, index: int) -> dict[str, float | None]:
        """When an element was submitted, started and ended, as far as is known: epoch seconds of this machine's clock."""
        element = self.elements.get(index)
        begun, ended = (element.begun, element.ended) if element is not None else (None, None)
        return {
            "submitted": self.record.made if self.record is not None else None,
            "started": None if begun is None else begun + self.clock,
            "ended": None if ended is None else ended + self.clock,
        }

    # --- news ---------------------------------------------------------------------------------------------------

    def learn(self, record: bytes, attempts: list[Any]) -> list[int]:
        """What its folder tells; the attempts to submit it that left no id."""
        with self.changed:
            if self.record is None and record:
                self.record = Record.of(record)
            if not record:
                self._set_lost("its folder at the submit host is gone")
                return []
            self.attempts = len(attempts)
            missing = []
            for number, (words, text, age) in enumerate(attempts):
                ids = self.scheduler.parse_submitted(text)
                if not ids:
                    missing.append(number)
                    self.unsettled = age
                else:
                    indices = [int(word) for word in words.split()]
                    if self.record is not None and not self.record.has(indices):
                        raise ValueError(f"attempt {number} has elements that the record has not")
                    self.submitted(ids, indices)
            if not attempts:
                self._set_lost("it was never submitted")
            return missing

    def submitted(self, ids: tuple[str, ...], indices: list[int]) -> None:
        """The scheduler has taken these elements, under these ids. [] stands for a single job."""
        with self.changed:
            self.base_ids = (*self.base_ids, *(ident for ident in ids if ident not in self.base_ids))
            named = self.scheduler.elements(ids, indices) if indices else {0: ids[0]}
            for index, ident in named.items():
                element = self.elements.setdefault(index, Element(index))
                element.ident, element.base = ident, ident if ident in ids else ids[0]
            self.lost = self.unsettled = None
            self.tell()

    def again(self, indices: Iterable[int]) -> None:
        """These elements are to be submitted once more."""
        with self.changed:
            for index in indices:
                self.elements[index] = Element(index)
                self.lives.pop(index, None)

    def unfound(self) -> None:
        """The scheduler does not know of an attempt to submit it."""
        with self.changed:
            if self.unsettled is not None and self.unsettled > NEVER and not self.elements:
                self._set_lost("it was never submitted")

    def _set_lost(self, why: str) -> None:
        self.lost = Standing(State.LOST, why)
        self.tell()

    def take(self, news: list[Any]) -> None:
        """One piece of news of `far/spooling.py`, without its key."""
        kind, *told = news
        now = time.monotonic()
        with self.changed:
            if kind == "gone":
                self._set_lost("its folder at the submit host is gone")
            elif kind == "cancelled":
                chosen = self.elements.values() if told[0] is None else [self.elements.get(told[0])]
                for element in chosen:
                    if element is not None:
                        element.cancelled = True
            elif kind == "begun":
                if told[0] in self.elements:
                    self.elements[told[0]].begins(told[1], told[2])
            elif told[0] in self.elements:
                self._end(now, *told)
            self.tell()

    def _end(
        self, now: float, index: int, end: str, at: float, small: list[bytes] | None, errors: bytes
    ) -> None:
        element = self.elements[index]
        end = printable(end)
        element.errors = errors
        if small is not None and (self.record is None or self.record.kind == "call"):
            names = [f"answer.{index}.{attempt}" for attempt in range(len(small))]
            self.live(index).take(names, small)
        element.ends(end, at, now, self._is_whole(index, end, small))

    def _is_whole(self, index: int, end: str, small: list[bytes] | None) -> bool:
        """Whether an element that has ended says itself what came of it."""
        if self.record is not None and self.record.kind == "command":
            return end.isdigit() and int(end) < 128
        if small is None:
            return end in ("0", "1")
        return any(end == "0" or answer.kind == wire.RAISED for answer in self.live(index).answers.values())

    def said(self, known: dict[str, Standing], all_known: bool, about: set[str]) -> list[Element]:
        """What the scheduler says of the ids `about`. The elements that it has forgotten: the accounting may know more."""
        forgotten = []
        with self.changed:
            now = time.monotonic()
            if not about.isdisjoint(self.base_ids):  # else the question was asked before this was submitted
                self.asked_at = now
            for element in self.elements.values():
                if element.final or element.base not in about:
                    continue
                standing = known.get(element.ident) or known.get(element.base)
                if standing is None and not all_known:
                    continue
                first = standing is None and not element.missed
                element.missed = standing is None
                if first:
                    forgotten.append(element)
                if not first or element.end is None or self.scheduler.history([element.ident]) is None:
                    element.said(standing, now, self.scheduler.name)  # else after the accounting
            self.tell()
        return forgotten

    def raise_trouble(self) -> None:
        """Tell who waits why nothing is learned of it, if that is so: once, for it may pass."""
        with self.changed:
            trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble

    def tick(self) -> None:
        with self.changed:
            for element in self.elements.values():
                element.tick(time.monotonic())
            if any(element.over_since is not None for element in self.elements.values()) or self.trouble:
                self.tell()

    def tell(self) -> None:
        """Wake who waits."""
        with self.changed:
            self.changed.notify_all()
            for callback in list(self.callbacks):
                callback()
