"""One watcher for each submit host: it asks about all jobs there together, however many of them are waited for."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from outrider.batch import noting
from outrider.batch.lot import Lot
from outrider.batch.reaching import far_answer
from outrider.batch.schedulers.base import Scheduler
from outrider.batch.splitting import Split, head_options
from outrider.chain import Chain
from outrider.errors import FarError, Lost, OutriderError, TimedOut
from outrider.options import Options
from outrider.session import Session

INTERVAL = 1.0
"""Seconds between two questions to the scheduler."""
LINGER = 2.0
"""Seconds that the way to the submit host stays open when nobody needs it."""
ASK_LIMIT = 120.0
"""Seconds that the submit host may take over one question."""
OUTAGE = 3600.0
"""Seconds without the submit host after which those who wait are told."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0

logger = logging.getLogger("outrider")


def may_pass(error: BaseException) -> bool:
    """Whether the submit host may be reached again later."""
    return isinstance(error, OutriderError) and (error.transient or isinstance(error, (Lost, TimedOut)))


class Watcher:
    """Use it through `watcher_of`. All methods may be called by many threads at once."""

    def __init__(self, chain: Chain, options: Options, scheduler: Scheduler) -> None:
        self.chain, self.options, self.scheduler = chain, options, scheduler
        self._lots: weakref.WeakValueDictionary[str, Lot] = weakref.WeakValueDictionary()
        self._waited: dict[str, tuple[Lot, int]] = {}
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._stir = threading.Condition(self._lock)
        self._session: Session | None = None
        self._known_there: set[str] = set()
        self._renewed: list[str] = []
        self._thread: threading.Thread | None = None
        self._users = 0
        self._used = 0.0

    def lot(self, key: str, limit: int) -> Lot:
        """The lot of that key, the same for all who ask. limit: bytes of one answer at the most."""
        with self._lock:
            found = self._lots.get(key)
            if found is None:
                found = self._lots[key] = Lot(key, self.scheduler, limit)
            return found

    def rest(self) -> None:
        """Do not linger: if nobody needs the way, it is closed when this returns."""
        with self._stir:
            thread = self._thread
            if self._users or self._waited:
                return
            self._used = -LINGER
            self._stir.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(LINGER)

    def disinherit(self) -> None:
        """In a forked child: neither the thread nor the way is its own."""
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._stir = threading.Condition(self._lock)
        self._session = self._thread = None
        self._known_there, self._waited, self._users = set(), {}, 0
        for lot in list(self._lots.values()):
            lot.changed = threading.Condition()
            lot.callbacks.clear()

    # --- asking -------------------------------------------------------------------------------------------------

    def ask(self, function: str, argument: Any, timeout: float = ASK_LIMIT) -> Any:
        """What a function of `far/spooling.py` answers at the submit host. Raises what opening the way there raises."""
        with self._using() as far:
            return far_answer(far, function, argument, timeout)

    @contextlib.contextmanager
    def _using(self) -> Iterator[Session]:
        with self._lock:
            self._users += 1
        try:
            yield self._open()
        finally:
            with self._lock:
                self._users -= 1
                self._used = time.monotonic()

    def _open(self) -> Session:
        with self._opening:  # one opens, the others take what it opened
            far = self._session
            if far is not None and not far.connection.over and not far.connection.closed:
                return far
            if far is not None:  # it broke: what is left of it is closed
                far.close()
            fresh = Session(self.chain, self.options)
            with self._lock:
                self._session, self._known_there = fresh, set()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._watch, name="outrider-jobs", daemon=True)
                    self._thread.start()
            return fresh

    def _introduce(self, lots: list[Lot]) -> None:
        """Let the far end watch these folders, and learn what is known of them."""
        with self._using() as far:
            with self._lock:
                strange = [
                    lot
                    for lot in lots
                    if (lot.key not in self._known_there or lot.unsettled is not None)
                    and lot.key not in self._renewed
                ]
                self._known_there.update(lot.key for lot in strange)
            if not strange:
                return
            asked = [
                (lot.key, [index for index, element in lot.elements.items() if element.final])
                for lot in strange
            ]
            missing = {}
            try:
                told = far_answer(far, "watch", asked, ASK_LIMIT)
            except BaseException:
                with self._lock:
                    self._known_there.difference_update(lot.key for lot in strange)
                raise
            with self._believing():
                pairs = list(zip(strange, told, strict=True))
            doubtful = {lot.key for lot, _ in pairs}
            for lot, about in pairs:
                with self._believing(lot):
                    record, attempts = about
                    if numbers := lot.learn(record, attempts):
                        missing[lot.key] = (lot, numbers, attempts)
                    doubtful.discard(lot.key)
            with self._lock:  # who asks again is told again
                self._known_there -= doubtful
            for lot, numbers, attempts in missing.values():
                self._find(far, lot, numbers, attempts)

    def _find(self, far: Session, lot: Lot, numbers: list[int], attempts: list[Any]) -> None:
        """Whoever submitted it ended before the id was noted: the scheduler knows the job by its key."""
        for number in numbers:
            key = f"{lot.key}.{number}" if number else lot.key
            argv = self.scheduler.find(key)
            told = (
                far_answer(far, "run", argv, ASK_LIMIT) if argv is not None else {"status": 1, "stdout": ""}
            )
            ids = self.scheduler.parse_found(str(told["stdout"]), key) if told["status"] == 0 else ()
            if ids:
                asked = {"key": lot.key, "attempt": number, "text": "\n".join(ids) + "\n"}
                far_answer(far, "note", asked, ASK_LIMIT)
                lot.submitted(ids, [int(word) for word in attempts[number][0].split()])
            elif argv is None or told["status"] == 0:
                lot.unfound()

    @contextlib.contextmanager
    def renewing(self, lot: Lot) -> Iterator[None]:
        """While it lasts, what was told of the lot stops being true: no news of it are heard. Then it is told anew."""
        with self._lock:
            self._renewed.append(lot.key)
        try:
            self.ask("unwatch", [lot.key])
            yield
        finally:
            with self._lock:
                self._renewed.remove(lot.key)
                self._known_there.discard(lot.key)

    def clean(self, lot: Lot) -> None:
        """Remove its folder. Who asks for its key from now on learns so; who has it knows what is known."""
        self.ask("clean", lot.key)
        with self._lock:
            self._known_there.discard(lot.key)
            self._lots.pop(lot.key, None)
        noting.forgotten(lot.key)

    def refresh(self, lot: Lot) -> None:
        """Learn how a lot stands just now. The scheduler is asked for all lots at once, and once in INTERVAL."""
        with self._lock:
            lots = [found for found in self._lots.values() if not found.final]
        self._introduce(lots)
        self._said(self._look(0.0, []))
        if not lot.final and time.monotonic() - lot.asked_at >= INTERVAL:
            lots = [found for found in lots if not found.final]
            if ids := self._ids(lots):
                self._said({**self.ask("run", self.scheduler.query(ids)), "about": ids})
        for found in lots:
            found.tick()
            noting.ended(found)
        if lot.record is None:
            lot.raise_trouble()

    @staticmethod
    def _ids(lots: list[Lot]) -> list[str]:
        return [ident for lot in lots for ident in lot.ids()]

    def _look(self, wait: float, ids: list[str]) -> Any:
        argv = self.scheduler.query(ids) if ids else []
        asked = {"wait": wait, "interval": INTERVAL, "argv": argv, "about": ids}
        try:
            told = self.ask("look", asked, wait + ASK_LIMIT)
            with self._believing():
                offset = time.time() - told["now"]
                for news in told["news"]:
                    lot = self._lots.get(news[1])
                    if lot is not None and news[1] not in self._renewed:
                        with self._believing(lot):
                            lot.clock = offset
                            lot.take([news[0], *news[2:]])
                return told["said"]
        except (
            BaseException
        ):  # Ctrl-C, perhaps: what was told and not heard is told again to who is introduced anew
            with self._lock:
                self._known_there.clear()
            raise

    @contextlib.contextmanager
    def _believing(self, lot: Lot | None = None) -> Iterator[None]:
        """What the submit host tells is dealt with: one that keeps to no rules is told of, by whoever waits.

        lot: it is about this one, whose own code may have written it. The others are not to suffer for that.
        """
        try:
            yield
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            whose = "its jobs" if lot is None else f"the job {lot.key}"
            told = FarError(
                f"what the submit host tells of {whose} makes no sense: {type(error).__name__}: {error}",
                hop=self.chain.label(),
                hint="is that host what you think it is? It does not keep to the protocol: do not trust it"
                if lot is None
                else "its folder there, ~/.outrider/spool, was changed by somebody: do not trust what it has made",
            )
            told.__cause__ = error
            if lot is None:
                raise told from error
            self._trouble(lot, told)

    def _said(self, said: Any) -> None:
        """Hand on what the scheduler said of the jobs that it was asked about; None: nothing yet."""
        if said is None:
            return
        with self._lock:
            lots = list(self._lots.values())
        with self._believing():
            about = set(said["about"])
            known = self.scheduler.parse_query(said["stdout"])
            complete = self.scheduler.knows_all(said["status"], said["stdout"], said["stderr"])
            forgotten = [element for lot in lots for element in lot.said(known, complete, about)]
        argv = self.scheduler.history([element.ident for element in forgotten]) if forgotten else None
        if argv is None:
            return
        told = self.ask("run", argv)
        history = self.scheduler.parse_history(told["stdout"]) if told["status"] == 0 else {}
        for element in forgotten:
            if element.ident in history and history[element.ident].state.final:
                element.verdict = history[element.ident]

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait(self, lot: Lot, over: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `over()`, which news of the lot may make true; False if that is not within `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        with self.watching(lot), lot.changed:
            while not over():
                lot.raise_trouble()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                lot.changed.wait(left)
        return True

    @contextlib.contextmanager
    def watching(self, lot: Lot) -> Iterator[None]:
        """The lot is watched while it lasts."""
        self.watch(lot)
        try:
            yield
        finally:
            self.unwatch(lot)

    def watch(self, lot: Lot) -> None:
        """Watch it until `unwatch`. Raises what opening the way there raises."""
        with self._lock:
            if lot.key not in self._waited:
                lot.trouble = None  # of another time
        if not lot.final:
            self._introduce([lot])
        with self._stir:
            self._waited[lot.key] = (lot, self._waited.get(lot.key, (lot, 0))[1] + 1)
            self._stir.notify_all()

    def unwatch(self, lot: Lot) -> None:
        with self._stir:
            count = self._waited[lot.key][1] - 1
            if count:
                self._waited[lot.key] = (lot, count)
            else:
                del self._waited[lot.key]
            self._used = time.monotonic()

    def _watch(self) -> None:
        """The thread: looks while somebody waits, lingers a little, closes the way."""
        pause, failing = FIRST_PAUSE, None
        while True:
            lots = self._next_lots()
            if lots is None:
                return
            try:
                self._turn(lots)
                pause, failing = FIRST_PAUSE, None
            except Exception as error:
                if _ended:
                    return
                failing = failing or time.monotonic()
                if not may_pass(error) or time.monotonic() - failing > OUTAGE:
                    for lot in lots:
                        self._trouble(lot, error)
                else:
                    logger.warning("jobs cannot be watched just now, trying again: %s", error)
                with self._stir:
                    self._stir.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _trouble(self, lot: Lot, error: BaseException) -> None:
        with lot.changed:
            lot.trouble = error
            lot.tell()

    def _next_lots(self) -> list[Lot] | None:
        """The lots that somebody waits for; None when nobody has for a while, and the way is closed."""
        with self._stir:
            while True:
                lots = [lot for lot, _ in self._waited.values() if not lot.final]
                if lots:
                    return lots
                left = LINGER - (time.monotonic() - self._used)
                if not self._users and not self._waited and left <= 0:
                    break
                self._stir.wait(max(left, 0.05))
            far, self._session, self._thread = self._session, None, None
        if far is not None:
            far.close()
        return None

    def _turn(self, lots: list[Lot]) -> None:
        """Look once, until something happens or the scheduler is to be asked again."""
        self._introduce(lots)
        with self._lock:
            lots = [lot for lot in self._lots.values() if not lot.final and lot.key in self._known_there]
        self._said(self._look(INTERVAL, self._ids(lots)))
        for lot in lots:
            lot.tick()
            noting.ended(lot)


_watchers: list[Watcher] = []
_watchers_lock = threading.Lock()


def rest() -> None:
    """Close the ways to submit hosts that nobody needs just now, instead of after LINGER seconds."""
    with _watchers_lock:
        watchers = list(_watchers)
    for watcher in watchers:
        watcher.rest()


_ended: list[bool] = []
"""Not empty once the interpreter ends: sessions close then, and nobody waits any more."""
atexit.register(_ended.append, True)


def _forked() -> None:
    global _watchers_lock
    _watchers_lock = threading.Lock()  # the other may have been held
    for watcher in _watchers:
        watcher.disinherit()


os.register_at_fork(after_in_child=_forked)


def watcher_of(parts: Split, options: Options) -> Watcher:
    """The watcher of a route's submit host, the same for all routes that share the way to it."""
    ours = head_options(parts, options)
    with _watchers_lock:
        for watcher in _watchers:
            same = (watcher.chain, watcher.options) == (parts.head, ours)
            if same and watcher.scheduler.name == parts.scheduler.name:
                return watcher
        watcher = Watcher(parts.head, ours, parts.scheduler)
        _watchers.append(watcher)
        return watcher
