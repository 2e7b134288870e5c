"""Durable calls: they outlive the process that submitted them."""

from outrider.batch.job import BatchJob
from outrider.batch.states import Standing, State
from outrider.batch.submitting import submit
from outrider.batch.swept import PointResult, Sweep, table

__all__ = ["BatchJob", "PointResult", "Standing", "State", "Sweep", "submit", "table"]
