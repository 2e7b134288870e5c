"""What this account has submitted: SQLite, shared by its processes. A job stands here before anything runs for it."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider.batch.states import Standing, State
from outrider.errors import ConfigError, OutriderError

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
"""Of the tables. A file of a later version is left alone."""
BUSY = 10.0
"""Seconds to wait for other processes."""
_MIGRATIONS = (
    """
    CREATE TABLE jobs (
        key TEXT PRIMARY KEY, route TEXT, options TEXT NOT NULL, name TEXT NOT NULL, tags TEXT NOT NULL,
        label TEXT NOT NULL, items INTEGER NOT NULL, made REAL NOT NULL, id TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE standings (
        key TEXT NOT NULL REFERENCES jobs (key) ON DELETE CASCADE, item INTEGER NOT NULL,
        state TEXT NOT NULL, reason TEXT NOT NULL, started REAL, ended REAL, PRIMARY KEY (key, item)
    );
    CREATE INDEX jobs_made ON jobs (made);
    """,
)
"""What leads from each version to the next."""


class StoreError(OutriderError):
    """The local store of jobs cannot be used. The jobs themselves are not concerned."""


class BrokenStoreError(StoreError):
    """It was no database, and is not in the way any more."""


@dataclass(frozen=True)
class Row:
    """A job as it was submitted here. route: None if it has no text. items: 0 if it is no array. made: epoch seconds.

    id: the scheduler's, "" until it is known. ended: {item: how it has ended} of those that are known to be over.
    """

    key: str
    route: str | None
    options: dict[str, Any]
    name: str
    tags: tuple[str, ...]
    label: str
    items: int
    made: float
    id: str
    ended: dict[int, Standing]

    @property
    def over(self) -> bool:
        """Whether all of it is known to be over."""
        return len(self.ended) >= (self.items or 1)


def default_path() -> Path:
    """`$XDG_STATE_HOME/outrider/jobs.db`, by default below `~/.local/state`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "outrider" / "jobs.db"


class Store:
    """Each method opens the file anew: so threads and forks share nothing. Raises StoreError if it cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    # --- writing ------------------------------------------------------------------------------------------------

    def begin(
        self,
        key: str,
        route: str | None,
        options: dict[str, Any],
        *,
        name: str = "",
        tags: Iterable[str] = (),
        label: str = "",
        items: int = 0,
    ) -> None:
        """Note a job that is about to be submitted."""
        words = (key, route, json.dumps(options), name, json.dumps(list(tags)), label, items, time.time())
        try:
            self._insert(words)
        except BrokenStoreError:  # it was moved aside: a job is noted in the next one
            self._insert(words)

    def _insert(self, words: tuple[Any, ...]) -> None:
        with self._open() as database:
            database.execute(
                "INSERT INTO jobs (key, route, options, name, tags, label, items, made) VALUES (?,?,?,?,?,?,?,?)",
                words,
            )

    def submitted(self, key: str, ident: str) -> None:
        """It has an id."""
        with self._open() as database:
            database.execute("UPDATE jobs SET id = ? WHERE key = ?", (ident, key))

    def ended(self, key: str, standings: Iterable[tuple[int, Standing, float | None, float | None]]) -> None:
        """Items of it are over. standings: (item, standing, when it started, when it ended)."""
        words = [
            (key, item, str(told.state), told.reason, started, over)
            for item, told, started, over in standings
        ]
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # nobody removes the job between here and there
            if database.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone():
                database.executemany("INSERT OR REPLACE INTO standings VALUES (?,?,?,?,?,?)", words)

    def again(self, key: str, items: Iterable[int]) -> None:
        """Items of it run once more."""
        with self._open() as database:
            database.executemany(
                "DELETE FROM standings WHERE key = ? AND item = ?", [(key, item) for item in items]
            )

    def forget(self, key: str) -> None:
        """It was never submitted, or is cleaned up."""
        with self._open() as database:
            database.execute("DELETE FROM jobs WHERE key = ?", (key,))

    # --- reading ------------------------------------------------------------------------------------------------

    def rows(self, tag: str | None = None, name: str | None = None, since: float = 0.0) -> list[Row]:
        """Jobs, the newest last. tag: only those that have it. name: a pattern such as `train-*`. since: epoch seconds."""
        if not self.path.exists():
            return []
        with self._open() as database:
            found = database.execute(
                "SELECT * FROM jobs WHERE made >= ? AND name GLOB ? ORDER BY made, rowid",
                (since, name or "*"),
            ).fetchall()
            rows = [_row(words, self._standings(database, words[0])) for words in found]
        return [row for row in rows if tag is None or tag in row.tags]

    def get(self, which: str) -> Row:
        """The job of that key, of the only key that begins so, or the newest of that name or scheduler's id.

        ConfigError if there is none.
        """
        short = which.removeprefix("outrider-")
        if short and self.path.exists():
            with self._open() as database:
                like = f"outrider-{short}".replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
                found = database.execute(
                    r"SELECT * FROM jobs WHERE key LIKE ? ESCAPE '\' LIMIT 2", (like,)
                ).fetchall()
                if len(found) != 1:
                    named = database.execute(
                        "SELECT * FROM jobs WHERE name = ? OR id = ? ORDER BY made DESC LIMIT 1",
                        (which, which),
                    ).fetchall()
                    found = named or found
                if len(found) == 1:
                    return _row(found[0], self._standings(database, found[0][0]))
                if found:
                    raise ConfigError(f"more than one job begins with {which!r}", hint="give more of the key")
        raise ConfigError(
            f"no job {which!r} is known here",
            hint="`outrider ps --all` lists those of this account; of others, route.job(key) knows by the whole key",
        )

    def times(self, key: str) -> dict[int, tuple[float | None, float | None]]:
        """{item: (when it started, when it ended)} of the items of a job that are known to be over: epoch seconds."""
        with self._open() as database:
            found = database.execute("SELECT item, started, ended FROM standings WHERE key = ?", (key,))
            return {item: (started, ended) for item, started, ended in found}

    @staticmethod
    def _standings(database: sqlite3.Connection, key: str) -> dict[int, Standing]:
        found = database.execute("SELECT item, state, reason FROM standings WHERE key = ?", (key,))
        return {item: Standing(State(state), reason) for item, state, reason in found}

    # --- the file -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        import sqlite3

        kind = StoreError
        used = self._identity()
        try:
            with contextlib.closing(self._connect()) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            if type(error) is sqlite3.DatabaseError or "malformed" in str(error):
                kind = BrokenStoreError
                if used == self._identity():  # else another process has moved it, and this is a new one
                    self._move_aside(error)
            raise kind(
                f"the store of jobs cannot be used: {error}",
                hop=str(self.path),
                hint="is the disk full, or the folder not yours? XDG_STATE_HOME names another one",
            ) from error
        except OSError as error:
            raise StoreError(
                f"the store of jobs cannot be used: {error}",
                hop=str(self.path),
                hint="XDG_STATE_HOME names another folder",
            ) from error

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self.path, timeout=BUSY, isolation_level="IMMEDIATE")
        try:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = NORMAL")
            if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                self._migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        """One process does it, the others wait and find it done. Where WAL cannot be, on some network disks, it is not."""
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreError(
                f"the store of jobs was written by a later Outrider (version {version}, this one knows {VERSION})",
                hop=str(self.path),
                hint="update Outrider, or name another folder with XDG_STATE_HOME",
            )
        for script in _MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.commit()

    def _move_aside(self, error: Exception) -> None:
        """A file that is no database keeps nobody from working, and is kept for whoever wants to look."""
        aside = self.path.with_name(f"jobs.broken-{time.time_ns()}.db")
        with contextlib.suppress(OSError):
            for end in ("-wal", "-shm"):  # first: those that come after are of the next file
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            self.path.rename(aside)
            warnings.warn(f"the store of jobs was broken ({error}): it is {aside} now", stacklevel=2)


def _row(words: Any, ended: dict[int, Standing]) -> Row:
    key, route, options, name, tags, label, items, made, ident = words
    return Row(
        key, route, json.loads(options), name, tuple(json.loads(tags)), label, items, made, ident, ended
    )
