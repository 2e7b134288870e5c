"""Many items over the members of a group: each member that is free takes the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from outrider.errors import Cancelled, Lost, OutriderError
from outrider.groups.fanout import Fanout, Limits, Member, Result
from outrider.results import ItemResult as ItemResult
from outrider.session import Session


class Items:
    """The items of one `map`, handed out to members; to be closed, which cancels what is under way."""

    def __init__(
        self,
        members: Sequence[Member],
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        limits: Limits,
    ) -> None:
        # One batch, and each member works until no item is left: those beyond at_once would never get one.
        self._members = members[: limits.at_once]
        self._timeout = limits.timeout  # of one call, as a member is at work for as long as there are items
        limits = limits.changed({"batch": None, "timeout": None})
        self._fanout = Fanout(self._members, self._work, limits)
        self._results = self._fanout.results()
        self._fn = fn
        self._source = enumerate(zip(*iterables, strict=False))
        self._again: deque[tuple[int, tuple[Any, ...], int]] = deque()
        self._retries = limits.retry
        # So many may wait for the reader: a slow reader stops the work instead of filling the memory.
        self._window = 2 * len(self._members) + 8
        self._changed = threading.Condition()
        self._out = 0
        self._busy = 0
        self._source_error: BaseException | None = None
        self._ended = False

    def arriving(self) -> Iterator[ItemResult]:
        """Results in the order of arrival."""
        unable: list[Result] = []
        for arrived in self._results:
            if isinstance(arrived, Result):
                if not arrived.ok:
                    unable.append(arrived)
                continue
            with self._changed:
                self._out -= 1
                self._changed.notify_all()
            yield arrived
        if self._source_error is not None:
            raise self._source_error
        if self._left():
            error = self._fanout.stopping or (unable[0].error if unable else None)
            raise error or Lost("no member is left to take the items that remain")

    def in_order(self) -> Iterator[Any]:
        """Values in the order of the items; an item's error is raised at its turn."""
        early: dict[int, ItemResult] = {}
        turn = 0
        for arrived in self.arriving():
            early[arrived.index] = arrived
            if arrived.index != turn:
                with (
                    self._changed
                ):  # it waits for an earlier one, and must not stop that by filling the window
                    self._out += 1
            while turn in early:
                item = early.pop(turn)
                if item.index != arrived.index:
                    with self._changed:
                        self._out -= 1
                        self._changed.notify_all()
                turn += 1
                if item.error is not None:
                    raise item.error
                yield item.value

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._results.close()

    def _left(self) -> bool:
        with self._changed:
            return bool(self._again) or next(self._source, None) is not None

    # --- in the members' threads -----------------------------------------------------------------------------------

    def _work(self, far: Session, member: Member) -> int:
        """Call item after item until none is left; the number of those called here."""
        count = 0
        if self._timeout is not None:
            far = far.options(timeout=self._timeout)
        while (item := self._next()) is not None:
            index, args, tries = item
            try:
                result = ItemResult(index, member.name, far.call(self._fn, *args))
            except (Exception, KeyboardInterrupt) as error:
                why = self._fanout.stopping if isinstance(error, (Cancelled, Lost)) else None
                result = ItemResult(index, member.name, error=why or error)
            gone = far.connection.over
            if isinstance(result.error, OutriderError) and result.error.transient and tries < self._retries:
                self._give_back((index, args, tries + 1))
            else:
                self._fanout.arrived.put(result)
                self._give_back(None)
            if gone:
                raise result.error or Lost("the far end is gone")
            count += 1
        return count

    def _next(self) -> tuple[int, tuple[Any, ...], int] | None:
        with self._changed:
            while True:
                if self._ended or self._fanout.stopping is not None or self._source_error is not None:
                    return None
                if self._again:
                    self._busy += 1
                    return self._again.popleft()
                if self._out + self._busy < self._window:
                    try:
                        index, args = next(self._source)
                    except StopIteration:
                        if not self._busy:  # else one under way may come back
                            self._changed.notify_all()
                            return None
                    except BaseException as error:  # the caller's own iterable failed: told to the reader
                        self._source_error = error
                        return None
                    else:
                        self._busy += 1
                        return index, args, 0
                self._changed.wait(1.0)

    def _give_back(self, item: tuple[int, tuple[Any, ...], int] | None) -> None:
        """An item is no longer under way: handed to the reader (None), or to be taken again."""
        with self._changed:
            self._busy -= 1
            if item is None:
                self._out += 1
            else:
                self._again.append(item)
            self._changed.notify_all()
