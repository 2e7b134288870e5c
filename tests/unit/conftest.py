"""Which unit tests are left out of `make check`, which is for daily use and takes less than two minutes."""

from __future__ import annotations

import pytest

SLOW = {
    "test_batch_cancel", "test_batch_liars", "test_cancelling", "test_carried", "test_cli_docs",
    "test_cli_jobs", "test_data",
    "test_detach", "test_docs", "test_executor", "test_far_end", "test_files_hostile", "test_heartbeat",
    "test_interrupts", "test_jail", "test_jail_groups", "test_near_end", "test_notebook", "test_reconnect",
    "test_sandbox_calls", "test_sandbox_cli", "test_sandbox_pairs",
}  # fmt: skip
"""Modules that wait on purpose, for what ends too late or not at all, or that need seconds of a processor."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
