"""The bench: ourselves, peers from PyPI and the floor, interleaved in one run. docs/performance.md tells how to use it."""
