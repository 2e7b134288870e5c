"""Durable calls: they outlive the process that submitted them."""

from outrider.batch.job import BatchJob
from outrider.batch.states import Standing, State
from outrider.batch.submitting import submit

__all__ = ["BatchJob", "Standing", "State", "submit"]
