"""What `import outrider` finds at a far end where Outrider is not installed, and in a script's top level at any.

A script that sends one of its own functions is run there, under another name, to define it; and such a script imports
Outrider and composes its routes at the top. That must pass; using a route there must not: it would go on for ever.
"""

NEEDED = (
    "a script's top level runs at the far end too, to define its functions there: keep what uses a route under"
    ' `if __name__ == "__main__":`, or in a function that only the near end calls'
)
ACTIONS = frozenset(
    ("call", "call_detailed", "run", "invoke", "map", "open", "put", "get", "submit", "shell", "debug")
)


class Placeholder:
    """Stands for a hop, a route, an error class …: can be composed and named, not used."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        if name in ACTIONS:
            raise RuntimeError(NEEDED)
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self

    def __or__(self, other):
        return self

    def __ror__(self, other):
        return self


class PlaceholderError(Exception):
    """Stands for Outrider's exception classes, so that `except` clauses and subclasses work."""


def register_data(cls):
    """Only the near end builds values by registration: here the class stays what it is."""
    return cls


def idempotent(function):
    """Only the near end repeats calls: here the function stays what it is."""
    return function


def __getattr__(name):
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(name)
    errors = (
        "Error",
        "Lost",
        "TimedOut",
        "Cancelled",
        "Refused",
        "Unserializable",
        "VersionMismatch",
        "CommandFailed",
    )
    if name.endswith(errors):
        return PlaceholderError
    return Placeholder if name[:1].isupper() else Placeholder()
