"""An exception at the far end → what can be shown anywhere, and the exception itself where it can travel."""

import os

from . import data
from .pickling import pickle


def describe(error, as_data, duration):
    """Segments of a RAISED answer: what can be shown anywhere, then the exception itself where it can travel."""
    import traceback  # takes milliseconds to import, and most calls do not raise

    frames = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=False)
    mine = os.path.dirname("<outrider>/x")
    kept = [frame for frame in frames.stack if not frame.filename.startswith(mine)]
    frames.stack[:] = kept
    kind = type(error)
    about = {
        "kind": kind.__module__ + "." + kind.__qualname__,
        "message": _text(error),
        "traceback": "".join(frames.format()),
        "duration": duration,
        "missing": getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None,
        "file": _text(error.filename) if isinstance(error, FileNotFoundError) else None,
    }
    pickled = b""
    if not as_data:
        try:
            pickled = pickle.dumps(error, 5)
        except Exception:  # an exception that cannot travel is shown by its traceback instead
            pickled = b""
    return [data.dumps(about), pickled]


def _text(error):
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"
