"""`python -m outrider.bridge.host --dir FOLDER [--carrier C] [--jobs N] [--grace S] RULES...`, without click.

Also `python3 bridge/host --dir …`, from a copy of the folder `bridge` alone: on a host whose Python is too old for Outrider.
"""

from __future__ import annotations

import os
import sys
import types

if not __package__:
    # The names that the files here use, without importing Outrider for them.
    here = os.path.dirname(os.path.abspath(__file__))
    for name, path in (("outrider", []), ("outrider.bridge", [os.path.dirname(here)])):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = path

from outrider.bridge.host.main import serve


def main(words: list[str]) -> int:
    rules: list[str] = []
    given = {"--dir": "", "--carrier": "auto", "--jobs": "64", "--grace": "5", "--audit": ""}
    any_user, at = False, 0
    while at < len(words):
        if words[at] == "--any-user":
            any_user = True
            at += 1
            continue
        pair = words[at : at + 2]
        if pair[0] in given and len(pair) == 2:
            given[pair[0]] = pair[1]
        else:
            rules += pair
        at += 2
    if not given["--dir"]:
        sys.stderr.write("outrider bridge: --dir says in which folder to serve\n")
        return 125
    return serve(
        given["--dir"],
        rules,
        carrier=given["--carrier"],
        jobs=int(given["--jobs"]),
        grace=int(given["--grace"]),
        audit=given["--audit"] or None,
        any_user=any_user,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
