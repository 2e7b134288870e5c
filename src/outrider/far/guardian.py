"""A small process beside the far end that cleans up when the far end itself is killed."""

import os
import sys

SESSION_MARK = "OUTRIDER_SESSION"
_PROGRAM = "OUTRIDER_GUARDIAN"

# A shell, since it waits in a twentieth of the memory of a Python; that is started only when there is something to do.
_WATCH = """\
trap '' HUP INT TERM QUIT
groups=$3 folders=
without() { left=; for one in $1; do [ "$one" = "$2" ] || left="$left $one"; done; }
while read -r what it; do
  case $what in
  done) exit ;;
  +group) groups="$groups $it" ;;
  -group) without "$groups" "$it"; groups=$left ;;
  +folder) folders="$folders $it" ;;
  -folder) without "$folders" "$it"; folders=$left ;;
  esac
done
exec "$1" -c "$OUTRIDER_GUARDIAN" "$2" "$groups" "$folders"
"""


class Guardian:
    """It holds nothing but the reading end of a pipe: lines `+group N`, `-group N`, `+folder HEX`, `-folder HEX`, `done`.

    The pipe's end means that the far end is gone, however it went; without a `done` before, it has cleaned up nothing.
    """

    def __init__(self, mark):
        self.mark = mark
        self.pid = None
        self._pipe = -1

    def start(self):
        """Start it, once."""
        if self.pid is not None:
            return
        reader, self._pipe = os.pipe()
        os.register_at_fork(after_in_child=self._forget)
        own_group = os.getpgrp()
        argv = ["sh", "-c", _WATCH, "outrider-guardian", sys.executable or "python3", self.mark]
        argv.append(str(own_group) if own_group == os.getpid() else "")
        env = dict(os.environ)
        loader = __spec__.loader
        source = loader.get_source(__package__ + ".processes")  # type: ignore[union-attr]
        env[_PROGRAM] = source + "\nafter_death(*sys.argv[1:])\n"
        files = [
            (os.POSIX_SPAWN_DUP2, reader, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            self.pid = self._spawn(argv, env, files)
        except (
            OSError
        ):  # an image without a shell: then nobody cleans up after a far end that is killed there
            self.pid = 0
        finally:
            os.close(reader)

    @staticmethod
    def _spawn(argv, env, files):
        try:
            return os.posix_spawn("/bin/sh", argv, env, file_actions=files, setsid=True)
        except (
            NotImplementedError
        ):  # a C library that cannot; the shell ignores what a terminal could send it
            return os.posix_spawn("/bin/sh", argv, env, file_actions=files, setpgroup=0)

    def _forget(self):
        """In a child that was forked: its copy of the pipe must not outlive the far end."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _tell(self, line):
        try:
            os.write(self._pipe, line + b"\n")
        except OSError:  # it was killed: the far end still cleans up after itself
            pass

    def rest(self):
        """All is cleaned up: nothing is left for it to do."""
        self._tell(b"done")

    def watch_group(self, group):
        self._tell(b"+group %d" % group)

    def forget_group(self, group):
        self._tell(b"-group %d" % group)

    def watch_folder(self, path):
        self._tell(b"+folder " + os.fsencode(path).hex().encode())

    def forget_folder(self, path):
        self._tell(b"-folder " + os.fsencode(path).hex().encode())
