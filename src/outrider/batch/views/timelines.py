"""A timeline of jobs: when each was queued, staging, running, fetching. As text, as a picture, and for tracing viewers."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from outrider.batch.array import JobArray
from outrider.batch.job import BatchJob
from outrider.batch.swept import Sweep
from outrider.batch.views.chrome import chrome
from outrider.batch.views.lives import Life, counted, life, orderly
from outrider.batch.views.picture import picture
from outrider.batch.views.text import text
from outrider.errors import ConfigError

SUFFIXES = (".json", ".svg", ".txt")


class Timeline:
    """The lives of jobs, as they were when it was made. In a notebook it shows itself as a picture."""

    def __init__(self, lives: Iterable[Life], now: float | None = None) -> None:
        self._found = orderly(lives, time.time() if now is None else now)

    @property
    def lives(self) -> Sequence[Life]:
        """One for each job, in the order of their beginning; no span ends before it begins."""
        return self._found.lives

    def text(self, width: int = 80, ascii_only: bool = False, limit: int = 40) -> str:
        """Lines no longer than `width` (at least 60) letters, for at most `limit` jobs or groups of jobs."""
        return text(self._found, width, ascii_only, limit)

    def svg(self, limit: int = 200) -> str:
        """A picture for light and dark ground; nothing is loaded by it, no script is in it."""
        return picture(self._found, limit)

    def chrome(self) -> dict[str, Any]:
        """The Trace Event Format, as what `json.dump` takes: all jobs, however many."""
        return chrome(self._found)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write it to a file; its suffix says how: .json for Perfetto, .svg a picture, .txt the lines."""
        suffix = Path(file).suffix
        if suffix not in SUFFIXES:
            raise ConfigError(
                f"a timeline cannot be written as {Path(file).name!r}",
                key="file",
                hint="the suffix says how: .json for Perfetto and chrome://tracing, .svg a picture, .txt the lines",
            )
        if suffix == ".json":
            import json

            body = json.dumps(self.chrome())
        else:
            body = self.svg() if suffix == ".svg" else self.text()
        Path(file).write_text(body, encoding="utf-8", errors="replace")

    def _repr_html_(self) -> str:
        """As an image: the style of a picture that stands within the page would be that of all of the page's pictures."""
        data = base64.b64encode(self.svg().encode()).decode()
        told = escape(f"timeline: {counted(self.lives)}")
        return f'<img alt="{told}" src="data:image/svg+xml;base64,{data}" style="max-width: 100%">'


def timeline(jobs: Any) -> Timeline:
    """The timeline of a job, of a `JobArray`, of a `Sweep`, or of any of them in a list; `Life` counts as a job, too.

    Each submit host is asked once, however many jobs it has. Raises TypeError for what is no job.
    """
    found = list(jobs_in(jobs))
    learn(job for job in found if isinstance(job, BatchJob))
    return Timeline([job if isinstance(job, Life) else life_of(job) for job in found])


def jobs_in(jobs: Any) -> Iterator[BatchJob | Life]:
    """Each job by itself; an array is its jobs."""
    if isinstance(jobs, BatchJob | Life):
        yield jobs
    elif isinstance(jobs, Sweep):
        yield from jobs_in(jobs.jobs)
    elif isinstance(jobs, Iterable) and not isinstance(jobs, str | bytes | dict):
        for job in jobs:
            yield from jobs_in(job)
    else:
        raise TypeError(f"{jobs!r} is no job; give jobs as submit gives them, or lists of these")


def learn(jobs: Iterable[BatchJob | JobArray], asked: set[int] | None = None) -> None:
    """Ask each submit host once: it tells of all jobs there that are known here. asked: those that were."""
    asked = set() if asked is None else asked
    for job in jobs:
        if id(job._watcher) not in asked and (job._lot.record is None or not job._lot.final):
            asked.add(id(job._watcher))
            job._watcher.refresh(job._lot)


def life_of(job: BatchJob) -> Life:
    """The life of a job, as far as it is known here; nothing is asked."""
    group = "" if job.index is None else job.name
    name = job.name if job.index is None else f"{job.name}[{job.index}]"
    return life(name, job._known().state, job._lot.times(job._element), group=group)
