"""Limits of the kernel for what a call may use: set in the process that runs it, inherited by what it starts."""

import os

NAMES = {
    "memory": "RLIMIT_DATA",
    "cpu_time": "RLIMIT_CPU",
    "processes": "RLIMIT_NPROC",
    "open_files": "RLIMIT_NOFILE",
}


def apply(limits):
    """Set them all: {"memory": bytes, "cpu_time": seconds, "processes", "open_files", "nice": how much to add}."""
    import resource

    for name, value in sorted(limits.items()):
        try:
            if name == "nice":
                os.nice(value)
                continue
            kind = getattr(resource, NAMES[name])
            hard = resource.getrlimit(kind)[1]
            # The processor's soft limit ends the process by SIGXCPU, by name; the hard one would by SIGKILL.
            above = value + 5 if name == "cpu_time" else value
            resource.setrlimit(kind, (value, above if hard == resource.RLIM_INFINITY else min(above, hard)))
        except (OSError, ValueError) as error:
            raise OSError("the limit %s=%r cannot be set there: %s" % (name, value, error)) from None
