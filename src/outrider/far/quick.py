"""Modules of the standard library that every start needs, without the milliseconds of what they import besides."""

import _signal as signal  # type: ignore[import-not-found]  # signal itself imports enum and more
import _struct as struct  # all of it: struct only gives it its name

__all__ = ["release", "signal", "struct", "threading_of"]


def release(lock):
    """Wake who waits for `lock`, or will: several who do so at once are one."""
    try:
        lock.release()
    except RuntimeError:  # it is free already
        pass


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
