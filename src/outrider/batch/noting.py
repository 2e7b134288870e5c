"""What becomes of jobs is noted in the store. A store that cannot be used harms no job: it is told once."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from outrider.batch.lot import Lot, Record
from outrider.batch.store import Store, StoreError
from outrider.chain import Chain
from outrider.errors import OutriderError
from outrider.options import Options

KEPT = ("python", "cwd", "trust", "open_timeout", "max_answer")
"""Options that are noted, so that a job can be looked after; `env` may hold secrets."""
OFF = "OUTRIDER_NO_STORE"
"""The variable that keeps jobs out of the store."""
_told: list[str] = []


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        if not _told:
            _told.append(str(error))
            warnings.warn(
                f"{error.message}; jobs are submitted all the same: note down their keys", stacklevel=4
            )


def begins(chain: Chain, options: Options, key: str, record: Record) -> None:
    """It is about to be submitted."""
    if os.environ.get(OFF):
        return
    try:
        route: str | None = chain.to_string()
    except OutriderError:  # a password by a function, say: only the route itself leads back
        route = None
    plain = Options()
    kept: dict[str, Any] = {
        name: getattr(options, name) for name in KEPT if getattr(options, name) != getattr(plain, name)
    }
    with _harmless():
        Store().begin(
            key, route, kept, name=record.name, tags=record.tags, label=record.label, items=record.items
        )


def submitted(lot: Lot) -> None:
    """The scheduler has given it an id."""
    if not os.environ.get(OFF):
        with _harmless():
            Store().submitted(lot.key, " ".join(lot.base_ids))


def forgotten(key: str) -> None:
    """It was not submitted, or is cleaned up."""
    if not os.environ.get(OFF):
        with _harmless():
            Store().forget(key)


def ended(lot: Lot) -> None:
    """Note the items that have ended since the last time."""
    if lot.record is None or os.environ.get(OFF):
        return
    news = []
    chunk, items = lot.record.chunk, lot.record.items
    for index in lot.record.indices:
        element = lot.elements.get(index)
        if index not in lot.noted and lot.standing(index).state.final:
            lot.noted.add(index)
            begun, over = (element.begun, element.ended) if element is not None else (None, None)
            times = [None if at is None else at + lot.clock for at in (begun, over)]
            for item in range(index * chunk, min((index + 1) * chunk, items)) if items else (0,):
                standing = lot.item_standing(index, item % chunk + 1 if items else 1)
                news.append((item, standing, times[0], times[1]))
    if news:
        with _harmless():
            Store().ended(lot.key, news)


def again(lot: Lot, indices: list[int]) -> None:
    """These elements run once more."""
    assert lot.record is not None
    lot.noted.difference_update(indices)
    chunk = lot.record.chunk
    if not os.environ.get(OFF):
        with _harmless():
            Store().again(
                lot.key, [item for index in indices for item in range(index * chunk, (index + 1) * chunk)]
            )
