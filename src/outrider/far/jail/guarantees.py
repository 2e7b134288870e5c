"""What a sandbox holds, each by one name: these names stand in reports, in refusals and in `allow_missing`."""

MEMORY = "memory of the tree"
CPU = "cpu time of the tree"
PROCESSES = "processes"
NETWORK = "network"
DISK = "disk"
INODES = "inodes"
CALLS = "system calls"
FILES = "other users' files"
KILL = "kill all at once"
OWN_ID = "a user id of its own"

ALWAYS = (CALLS, FILES, KILL)
"""Asked for by every job; the others by a limit that is set."""
BY_LIMIT = (
    ("memory", MEMORY),
    ("time", CPU),
    ("processes", PROCESSES),
    ("disk", DISK),
    ("files", INODES),
)


ROUGHLY = (MEMORY, CPU)
"""Still limited where they cannot be held, only less exactly: refused for a strict job alone, and told to all."""


def asked_for(spec):
    """The guarantees that a job needs."""
    wanted = [name for limit, name in BY_LIMIT if spec["limits"].get(limit) is not None]
    if not spec["network"]:
        wanted.append(NETWORK)
    return [*wanted, *ALWAYS]


def refusal(spec, missing, engine):
    """Why a job is not run, or None: it asks for what cannot be held here, and does not say that it can do without."""
    lacking = [name for name in asked_for(spec) if name in missing and name not in spec["allow_missing"]]
    if not spec["strict"]:
        lacking = [name for name in lacking if name not in ROUGHLY]
    if not lacking:
        return None
    reasons = "; ".join("%s (%s)" % (name, missing[name]) for name in lacking)
    return (
        "the sandbox engine %s cannot hold here what was asked for: %s. To go on without, name it in allow_missing=%r"
        % (engine, reasons, lacking)
    )
