"""Modules of the standard library that the first call needs, without the milliseconds of what they import besides."""

import _signal as signal  # type: ignore[import-not-found]  # signal itself imports enum and more
import sys

__all__ = ["pickle", "signal", "threading_of"]


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


def threading_of(main_thread):
    """The threading module, imported only when a second thread runs code of yours.

    Before Python 3.13 it takes the thread that imports it first for the main thread; it is told which one is.
    """
    import threading

    main = threading.main_thread()
    if main.ident != main_thread:
        active = threading._active  # type: ignore[attr-defined]
        active.pop(main.ident, None)
        main._ident = main_thread  # type: ignore[attr-defined]
        active[main_thread] = main
    return threading
