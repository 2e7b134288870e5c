"""Durable calls: they outlive the process that submitted them."""

from typing import TYPE_CHECKING, Any

from outrider.batch.array import JobArray
from outrider.batch.batch import Batch
from outrider.batch.job import BatchJob
from outrider.batch.spec import Attributes, JobSpec, Resources
from outrider.batch.states import Standing, State

if TYPE_CHECKING:
    from outrider.batch.swept import PointResult, Sweep, table
    from outrider.batch.views.timelines import Timeline, timeline

__all__ = [
    "Attributes",
    "Batch",
    "BatchJob",
    "JobArray",
    "JobSpec",
    "PointResult",
    "Resources",
    "Standing",
    "State",
    "Sweep",
    "Timeline",
    "table",
    "timeline",
]

_LATER = {
    "PointResult": "swept",
    "Sweep": "swept",
    "table": "swept",
    "Timeline": "views.timelines",
    "timeline": "views.timelines",
}


def __getattr__(name: str) -> Any:
    """What a job can do without is imported when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found
    return found
