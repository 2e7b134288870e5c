"""JobSpec: a job in the words of PSI/J and the IRI API, whatever the scheduler calls them. No I/O.

Names: https://exaworks.org/psij-python (JobSpec, ResourceSpecV1, JobAttributes) and the IRI facility API's job requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from outrider.chain import Chain
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.hops.nearness import nearest
from outrider.hops.scheduler import Scheduler
from outrider.hops.sizes import seconds, size

T = TypeVar("T")

QUEUES = {"slurm": "partition"}
"""What a scheduler's hop calls a queue, where it is not `queue`."""
ACCOUNTS = {"flux": "bank", "lsf": "project"}
"""The same for an account."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job is given; None: what the scheduler gives unasked.

    node_count, process_count: how many in all. cpu_cores_per_process, gpu_cores_per_process: for each process.
    memory: bytes of each node, or text such as "2G".
    """

    node_count: int | None = None
    process_count: int | None = None
    cpu_cores_per_process: int | None = None
    gpu_cores_per_process: int | None = None
    memory: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """How a job is treated. duration: seconds that it may take, or text such as "1h30m".

    custom_attributes: more options of one scheduler, {"slurm.constraint": "gpu"}; those of other schedulers are left out.
    """

    duration: int | float | str | None = None
    queue_name: str | None = None
    account: str | None = None
    reservation_id: str | None = None
    custom_attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A command with its resources. One process runs it, whatever `process_count` is: it starts the others with the site's
    launcher, such as `srun`.

    directory: where it runs, in the tail of the route. environment: additional variables.
    """

    executable: str
    arguments: tuple[str, ...] = ()
    directory: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    resources: Resources = field(default_factory=Resources)
    attributes: Attributes = field(default_factory=Attributes)

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> JobSpec:
        """Of plain data, as JSON has it. ConfigError, with the nearest name, for one that is none."""
        found = dict(words)
        found["resources"] = _made(Resources, found.get("resources") or {}, "resources")
        found["attributes"] = _made(Attributes, found.get("attributes") or {}, "attributes")
        if not isinstance(found.get("executable"), str) or not found["executable"]:
            raise ConfigError(
                "a job needs its executable, a text", key="executable", hint='{"executable": "date"}'
            )
        arguments = found.get("arguments") or ()
        if isinstance(arguments, str) or not all(isinstance(word, (str, int, float)) for word in arguments):
            raise ConfigError(f"not a list of words: {arguments!r}", key="arguments", hint='write ["-u"]')
        found["arguments"] = tuple(map(str, arguments))
        return _made(cls, found, "job")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; what was not given is left out."""
        found = asdict(self)
        found["arguments"] = list(self.arguments)
        for part in ("resources", "attributes"):
            found[part] = {name: value for name, value in found[part].items() if value not in (None, {})}
        return {name: value for name, value in found.items() if value not in (None, "", {}, [])}

    def on(self, chain: Chain) -> tuple[Hop, ...]:
        """The hops of a route, with these resources at its last scheduler. ConfigError where there is none to give them."""
        for index in reversed(range(len(chain.hops))):
            hop = chain.hops[index]
            if isinstance(hop, Scheduler):
                asked = replace(hop, **self._words(hop))
                return (*chain.hops[:index], asked, *chain.hops[index + 1 :])
        if self.resources != Resources() or replace(self.attributes, custom_attributes={}) != Attributes():
            raise ConfigError(
                "there is no scheduler in the route that could give resources",
                hop=chain.label(),
                hint="add a hop such as slurm(), or leave resources and attributes out",
            )
        return chain.hops

    def _words(self, hop: Scheduler) -> dict[str, Any]:
        resources, attributes = self.resources, self.attributes
        gpus = resources.gpu_cores_per_process
        if gpus is not None and hop.name == "slurm":  # its hop counts those of all processes
            gpus *= resources.process_count or hop.tasks
        elif gpus is not None and hop.name in ("pbs", "lsf"):  # theirs those of a node
            gpus *= -(-(resources.process_count or hop.tasks) // (resources.node_count or hop.nodes or 1))
        duration, memory = attributes.duration, resources.memory
        words: dict[str, Any] = {
            "nodes": resources.node_count,
            "tasks": resources.process_count,
            "cpus": resources.cpu_cores_per_process,
            "gpus": gpus,
            "memory": None if memory is None else size(memory, hop=hop.name),
            "time": None if duration is None else seconds(duration, hop=hop.name, key="duration"),
            QUEUES.get(hop.name, "queue"): attributes.queue_name,
            ACCOUNTS.get(hop.name, "account"): attributes.account,
            "reservation": attributes.reservation_id,
            "job_name": self.name or None,
        }
        known = {item.name for item in fields(hop)}
        given: dict[str, Any] = {name: value for name, value in words.items() if value is not None}
        for name in given:
            if name not in known:
                raise ConfigError(f"{hop.name} has no {name}", hop=hop.name, key=name, hint="leave it out")
        mine = [
            (name.partition(".")[2], value)
            for name, value in attributes.custom_attributes.items()
            if name.partition(".")[0] == hop.name
        ]
        if mine:
            long = hop.name in ("slurm", "flux")
            more = [[f"--{name}={value}"] if long else [f"-{name}", value] for name, value in mine]
            given["extra"] = (*hop.extra, *(word for words in more for word in words))
        return given


def _made(kind: type[T], words: Any, key: str) -> T:
    """An object of these fields."""
    if not isinstance(words, Mapping):
        raise ConfigError(f"not a mapping of names to values: {words!r}", key=key)
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in words:
        if name not in names:
            hint = nearest(str(name), names) or f"the names are {', '.join(names)}"
            raise ConfigError(f"no field {name!r}", key=key, hint=hint)
    return kind(**words)
