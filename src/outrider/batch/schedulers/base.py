"""What a scheduler is to the rest: commands to run on its submit host, and the reading of what they print."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from outrider.batch.states import Standing
from outrider.hops.base import Hop

Argv = list[str]


@dataclass(frozen=True)
class Dependency:
    """A job that another waits for. folder: where its files are, at the submit host."""

    ids: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Submission:
    """What is to be submitted.

    hop: the route's hop of this scheduler, with the resources that were asked for. script: the file to run.
    key: a random name, by which the job can be found again if its id was lost. name: the user's own, or "".
    log: the file that takes what the script itself prints. indices: the elements of an array, of which not more than
    `limit` run at once; () for a single job. after: jobs that have to succeed first. hold: wait for `release`.
    warn: send SIGUSR1 to the script so many seconds before the time is up, and start it again if it is preempted.
    """

    hop: Hop | None
    script: str
    key: str
    log: str
    name: str = ""
    indices: tuple[int, ...] = ()
    limit: int | None = None
    after: tuple[Dependency, ...] = ()
    hold: bool = False
    warn: int | None = None


class Scheduler(ABC):
    """One scheduler. Pure: each method gives an argv for the submit host, or reads what one printed.

    Ids are as the scheduler prints them; those of an array's elements are what `elements` makes of them.
    """

    name: ClassVar[str]
    index: ClassVar[str]
    """The environment variable that tells a script which element of its array it is."""
    requeue: ClassVar[str] = ""
    """A line of shell by which a running script starts itself again, later; "" if it cannot."""

    @abstractmethod
    def submit(self, what: Submission) -> Argv:
        """Submit a job, or an array of them."""

    @abstractmethod
    def parse_submitted(self, text: str) -> tuple[str, ...]:
        """Of what `submit` printed: the id of the job or of the whole array, or those of all elements in their order.

        () if there is none.
        """

    def elements(self, ids: tuple[str, ...], indices: Sequence[int]) -> dict[int, str]:
        """{index: id} of an array's elements. ids: as `parse_submitted` gave them."""
        if len(ids) == len(indices) > 1:
            return dict(zip(indices, ids, strict=True))
        return {index: self.element(ids[0], index) for index in indices}

    def element(self, ident: str, index: int) -> str:
        """The id of one element of the array `ident`."""
        return f"{ident}_{index}"

    @abstractmethod
    def query(self, ids: Sequence[str]) -> Argv:
        """Ask for the state of jobs; one id stands for a whole array. One question to the scheduler, however many."""

    @abstractmethod
    def parse_query(self, text: str) -> dict[str, Standing]:
        """{id: standing} of what `query` printed, an array's elements apart; who is forgotten is not in it."""

    @abstractmethod
    def knows_all(self, status: int, said: str, complaint: str) -> bool:
        """Whether the query was answered, so that who is missing in the answer is gone.

        status, said, complaint: its exit status, stdout and stderr.
        """

    def history(self, ids: Sequence[str]) -> Argv | None:
        """Ask the accounting for jobs that the scheduler has forgotten; None if there is none to ask."""
        return None

    def parse_history(self, text: str) -> dict[str, Standing]:
        """{id: standing} of what `history` printed."""
        return {}

    def find(self, key: str) -> Argv | None:
        """Look for a job by its key; None if it can only be known by its id."""
        return None

    def parse_found(self, text: str, key: str) -> tuple[str, ...]:
        """The id of the job with that key, of what `find` printed; () if there is none."""
        return ()

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> Argv:
        """End jobs."""

    def hold(self, ids: Sequence[str]) -> Argv | None:
        """Keep waiting jobs from starting; None if they cannot be kept."""
        return None

    def release(self, ids: Sequence[str]) -> Argv | None:
        """Let held jobs go on; None if there are none."""
        return None


def ranges(indices: Sequence[int]) -> str:
    """`0-4,7` for (0, 1, 2, 3, 4, 7): as all schedulers write the elements of an array."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
