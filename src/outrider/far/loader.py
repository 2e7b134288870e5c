"""How the far end starts: the one line that a hop runs, and the program that follows it on stdin.

The line is a constant, so that a sudoers rule or a relay can allow exactly it. It must also be understood by
Python 2, which has to be told apart from a working far end by its answer, not by a syntax error.
"""

import binascii
import functools
import marshal
import os
import re
import zlib

PACKAGE = "_outrider_far"
"""The far end's name in its own sys.modules: apart from an `outrider` that may be installed there."""

PROTOCOL = 1
GREETING = b"\0OUTRIDER\0"
READY = GREETING + b"ready\n"
TOO_OLD = GREETING + b"python "

# READY goes out first: a session that must answer a password prompt holds everything back until it comes.
# Then one line with a size, then so many bytes: a zlib-packed marshal of {module: source}. marshal is read here
# by the far end from its near end, never the other way round.
LOADER = """\
import os,sys
sys.path[:]=[p for p in sys.path if p]
def read(n):
    b=b""
    while len(b)<n:
        c=os.read(0,n-len(b))
        if not c: os._exit(0)
        b+=c
    return b
if sys.version_info<(3,8):
    os.write(1,b"\\0OUTRIDER\\0python %d.%d\\n"%sys.version_info[:2]);sys.exit(3)
os.write(1,b"\\0OUTRIDER\\0ready\\n")
import marshal,zlib
s=marshal.loads(zlib.decompress(read(int(read(8)))))
exec(compile(s["start"],"<outrider>/start.py","exec"),{"sources":s})
"""

AT_START = (
    "start",
    "wire",
    "data",
    "link",
    "main",
    "calls",
    "packing",
    "pickling",
    "quick",
    "output",
    "modules",
    "guardian",
    "ending",
    "processes",
    "failures",
)
"""What is sent ahead of all: what the first call needs, and what must be there when the near end is gone."""

LATER = (
    "kinds",
    "cancelling",
    "isolation",
    "limits",
    "state",
    "debugging",
    "commands",
    "pump",
    "trees",
    "sending",
    "receiving",
    "files",
    "resources",
    "images",
    "generators",
    "channel",
    "sandbox",
    "interacting",
    "keeping",
    "attaching",
    "spooling",
    "in_job",
)
"""Sent when first needed: ahead of a request that is known to need it, or as the answer to a call's import. What the far
end imports while it reads the stream must come ahead: it cannot wait for an answer just then."""


WARDENS_PROGRAM = "program"
"""The name of the module, made when asked for, that carries all of `wardens_modules`."""

_DOCSTRING = re.compile(r'^([ ]*)"""(?:[^"]|"(?!""))*"""$', re.MULTILINE)
_COMMENT = re.compile(r"(?:^[ ]*|  )# ?.*$", re.MULTILINE)
_INDENT = re.compile(r"^(?: {4})+", re.MULTILINE)


@functools.lru_cache(maxsize=None)
def source(name: str) -> str:
    """The text of one module of the far end, without what is for people only, indented by one. Lines keep their numbers."""
    if name == WARDENS_PROGRAM:
        return wardens_program()
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, *name.split(".")) + ".py", encoding="utf-8") as file:
        text = file.read()
    text = _COMMENT.sub("", _DOCSTRING.sub(lambda found: found[1] + "0" + "\n" * found[0].count("\n"), text))
    return _INDENT.sub(lambda found: " " * (len(found[0]) // 4), text)


def wardens_modules() -> list[str]:
    """Names of what the sandbox's warden is made of."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jail")
    files = sorted(os.listdir(folder))
    return ["channel", *("jail." + file[:-3] for file in files if file.endswith(".py") and file[0] != "_")]


def wardens_program() -> str:
    """A module with the sources of the sandbox's warden, packed: a program of its own, which the far end only hands on."""
    body = zlib.compress(marshal.dumps({name: source(name) for name in wardens_modules()}, 2), 9)
    text = binascii.b2a_base64(body, newline=False).decode()
    return "def packed():\n    import binascii\n\n    return binascii.a2b_base64(%r)\n" % text


@functools.lru_cache(maxsize=None)
def packed_program(more: tuple[str, ...] = ()) -> bytes:
    """The far end as it goes over the wire: eight digits of size, then the sources. At most 20 KB.

    more: modules beside those that are always sent first, for a far end that can ask nobody.
    """
    body = zlib.compress(marshal.dumps({name: source(name) for name in (*AT_START, *more)}, 2), 9)
    return b"%08d" % len(body) + body
