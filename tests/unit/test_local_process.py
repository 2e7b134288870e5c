"""The process that a route's stream comes from."""

from __future__ import annotations

import sys

from tests.command_line import Terminal

MANY = """\
import os, threading
from outrider.near.local_process import LocalProcess

process = [LocalProcess(["sleep", "60"], process_group=0) for _ in range(4)]
start = threading.Barrier(4)

def open_and_go(number):
    for _ in range(300):
        start.wait()
        with process[number].foreground():
            pass

threads = [threading.Thread(target=open_and_go, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for one in process:
    one.end(grace=0)
print("all done", os.tcgetpgrp(0) == os.getpgrp() == os.getpid())
"""
FROM_BEHIND = """\
import os
from outrider.near.local_process import hand_terminal

assert os.tcgetpgrp(1) != os.getpgrp()
hand_terminal(1, os.getpgrp())
print("handed", os.tcgetpgrp(1) == os.getpgrp())
"""


def test_routes_that_open_at_once_leave_the_terminal_to_the_program_that_opens_them():
    with Terminal(["bash", "-mc", '"$0" -c "$1"; exit', sys.executable, MANY]) as terminal:
        terminal.expect(b"all done True")
        assert terminal.end() == 0


def test_who_asks_for_the_terminal_from_the_background_is_not_stopped():
    """Two that open at once may both see the terminal free: the later one then asks from the background."""
    with Terminal(["bash", "-mc", '"$0" -c "$1" & wait; exit', sys.executable, FROM_BEHIND]) as terminal:
        terminal.expect(b"handed True", seconds=10)
