"""What a scheduler is to the rest: commands to run on its submit host, and the reading of what they print."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from outrider.batch.states import Standing
from outrider.hops.base import Hop

Argv = list[str]


class Scheduler(ABC):
    """One scheduler. Pure: each method gives an argv for the submit host, or reads what one printed."""

    name: ClassVar[str]

    @abstractmethod
    def submit(self, hop: Hop | None, script: str, key: str, log: str) -> Argv:
        """Submit the file `script` as a job that is named `key`; what its shell prints goes to the file `log`.

        hop: the route's hop of this scheduler, with the resources that were asked for.
        """

    @abstractmethod
    def parse_submitted(self, text: str) -> str:
        """The job's id, of what `submit` printed; "" if there is none."""

    @abstractmethod
    def query(self, ids: Sequence[str]) -> Argv:
        """Ask for the state of jobs."""

    @abstractmethod
    def parse_query(self, text: str) -> dict[str, Standing]:
        """{id: standing} of what `query` printed; jobs that the scheduler has forgotten are not in it."""

    @abstractmethod
    def knows_all(self, status: int, said: str) -> bool:
        """Whether the query was answered, so that who is missing in the answer is gone. status: the query's exit status."""

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> Argv:
        """End jobs."""
