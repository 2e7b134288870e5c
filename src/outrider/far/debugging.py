"""A call under pdb, which talks over the call's own channels."""

import io

from . import wire


def debugged(link, inputs, ident, function):
    """`function` under pdb, talking over the call's own channels."""
    import pdb  # noqa: T100  # this is the debugger that the user asked for

    talk = CallTalk(link, ident, inputs[ident])
    debugger = pdb.Pdb(stdin=talk, stdout=talk, nosigint=True, readrc=False)  # type: ignore[arg-type]
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
            del inputs[ident]

    return run


class CallTalk(io.TextIOBase):
    """Text that goes straight to the near end as output of one call, and lines that come from there."""

    def __init__(self, link, ident, typed):
        self.link = link
        self.ident = ident
        self.typed = typed
        self.rest = b""
        self.over = False

    def readline(self, size=-1):
        while b"\n" not in self.rest and not self.over:
            if not self.typed.value:
                self.typed.sleep(None)
                continue
            piece = self.typed.value.popleft()
            self.over = piece is None
            self.rest += piece or b""
        line, newline, self.rest = self.rest.partition(b"\n")
        return (line + newline).decode("utf-8", "replace")

    def write(self, text):
        self.link.send_frame(wire.DATA, self.ident, text.encode("utf-8", "replace"), wire.STDOUT)
        return len(text)
