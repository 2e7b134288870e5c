"""A call under pdb, which talks over the call's own channels."""

import io
import os

from . import wire


def debugged(link, inputs, ident, function):
    """`function` under pdb, talking over the call's own channels."""
    import pdb  # noqa: T100  # this is the debugger that the user asked for

    reader, writer = os.pipe()
    inputs[ident] = writer
    talk = CallTalk(link, ident)
    debugger = pdb.Pdb(stdin=os.fdopen(reader, "r"), stdout=talk, nosigint=True, readrc=False)  # type: ignore[arg-type]
    debugger.prompt = "(far pdb) "

    def run(*args, **kwargs):
        try:
            return debugger.runcall(function, *args, **kwargs)
        except Exception as error:
            talk.write("raised %r; the debugger stands where it was raised\n" % (error,))
            debugger.reset()
            debugger.interaction(None, error.__traceback__)
            raise
        finally:
            os.close(inputs.pop(ident))

    return run


class CallTalk(io.TextIOBase):
    """Text that goes straight to the near end as output of one call."""

    def __init__(self, link, ident):
        self.link = link
        self.ident = ident

    def write(self, text):
        self.link.send_frame(wire.DATA, self.ident, text.encode("utf-8", "replace"), wire.STDOUT)
        return len(text)
