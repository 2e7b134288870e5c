"""The nearest of some words to a misspelt one, for hints."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint that names the nearest of `words`, or nothing where none is near."""
    words = list(words)
    swapped = [other for other in words if other != word and sorted(other) == sorted(word)]
    if not swapped:
        import difflib  # only errors need it

        # Short words differ by much at once: two letters out of four may be the slip of one finger.
        swapped = difflib.get_close_matches(word, words, n=1, cutoff=0.6 if len(word) > 3 else 0.5)
    return f"did you mean {swapped[0]!r}?" if swapped else ""
