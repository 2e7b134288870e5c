"""Jobs that outlive the session: their folders at the submit host, and how a far end inside a job differs from others."""

import os
import subprocess
import time

from . import processes
from .guardian import SESSION_MARK

PIECE = 4 << 20
LOOK = 0.05


def begin(far, spool):
    """Inside a job: nobody is there who could be asked, or who takes what is printed; the stream ends after the call."""
    far.output.LIMIT = 1 << 62
    far.modules.ask = _asked_in_vain
    far._stand_in = _rest_of_stand_in


def _rest_of_stand_in():
    processes.note_own()
    processes.become_subreaper()


def _asked_in_vain(question):
    if "data" in question:
        raise FileNotFoundError(2, "a job cannot ask for data of the caller's package", question["data"])


def folder_of(key):
    return os.path.join(os.path.expanduser("~"), ".outrider", "spool", key)


def store(asked):
    """Make a job's folder, fill it, and submit it: {"status", "stdout", "stderr"} of what was run for that."""
    import shlex

    folder = folder_of(asked["key"])
    os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
    os.mkdir(folder, 0o700)
    script = asked["script"].replace(asked["mark"], shlex.quote(folder))
    for name, body in (("start", asked["start"]), ("script", script.encode())):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(body)
    argv = [word.replace(asked["mark"], folder) for word in asked["argv"]]
    told = _run(argv, adopt=False)
    if told["status"] == 0:
        part = os.path.join(folder, "job.part")
        with open(part, "w") as file:
            file.write(told["stdout"])
        os.rename(part, os.path.join(folder, "job"))
    else:
        processes.remove_tree(folder)
    return told


def _run(argv, adopt=True):
    """Run one of the scheduler's programs. adopt: whether what it leaves running is this session's."""
    env = dict(os.environ)
    env.pop("TMPDIR" if "outrider-" in env.get("TMPDIR", "") else "", None)
    if not adopt:
        env.pop(SESSION_MARK, None)
        processes.LEAVING.append(argv)
        processes.become_subreaper(0)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            start_new_session=True,
            timeout=60,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        status, out, err = 127, b"", str(error).encode()
    finally:
        if not adopt:
            processes.LEAVING.pop()
            processes.become_subreaper()
    return {
        "status": status,
        "stdout": out.decode("utf-8", "replace"),
        "stderr": err.decode("utf-8", "replace"),
    }


def look(asked):
    """What is new of a job: more of its answer, its end, or what the scheduler says; waits up to `wait` seconds for it."""
    folder = folder_of(asked["key"])
    until = time.monotonic() + asked["wait"]
    while True:
        over = os.path.exists(os.path.join(folder, "end"))
        piece = _read(os.path.join(folder, "answer"), asked["at"])
        if piece or over or time.monotonic() >= until or not os.path.isdir(folder):
            break
        time.sleep(LOOK)
    told = {"piece": piece, "end": None, "errors": b"", "said": None}
    told["cancelled"] = os.path.exists(os.path.join(folder, "cancelled"))
    told["there"] = os.path.isdir(folder)
    if over and len(piece) < PIECE:
        told["end"] = _read(os.path.join(folder, "end"), 0).decode().strip()
        told["errors"] = _read(os.path.join(folder, "errors"), 0)[-65536:]
    elif not piece and asked["argv"]:
        told["said"] = _run(asked["argv"])
    return told


def submitted(key):
    """What the scheduler printed when the job was submitted; None if it was not, or is gone."""
    text = _read(os.path.join(folder_of(key), "job"), 0).decode()
    return text or None


def cancel(asked):
    """Run the scheduler's own words for it. A note beside it says who ended it: a signal does not."""
    with open(os.path.join(folder_of(asked["key"]), "cancelled"), "w"):
        pass
    return _run(asked["argv"])


def ask(argv):
    return _run(argv)


def clean(key):
    """Remove a job's folder."""
    processes.remove_tree(folder_of(key))


def _read(path, at):
    try:
        with open(path, "rb") as file:
            file.seek(at)
            return file.read(PIECE)
    except OSError:
        return b""
