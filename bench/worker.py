"""One contender in a process of its own: orders are lines of JSON on stdin, answers the same on stdout."""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    # What a contender prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contender = getattr(importlib.import_module(f"bench.{module}"), name)()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            if not hasattr(contender, method):
                raise NotImplementedError("it has no such thing")
            answer = {"value": getattr(contender, method)(**arguments)}
        except NotImplementedError as error:
            answer = {"cannot": str(error)}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
