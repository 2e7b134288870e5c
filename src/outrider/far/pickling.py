"""pickle, without the milliseconds of what Python's own pickle module imports besides."""

import sys

__all__ = ["pickle"]


def _pickle_core():
    """pickle's C core. It takes `partial` from functools and nothing else, whose own imports cost 2 ms of every start."""
    try:
        if "functools" in sys.modules:
            import _pickle

            return _pickle
        import _functools  # type: ignore[import-not-found]

        sys.modules["functools"] = _functools
        try:
            import _pickle
        finally:
            del sys.modules["functools"]
        return _pickle
    except ImportError:  # a Python that is not C
        import pickle

        return pickle


pickle = _pickle_core()
