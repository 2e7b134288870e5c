"""A far end that lies: a program of its own that speaks the protocol in raw bytes. `python3 liar.py SCENE [ARGUMENT]`.

It takes the bootstrap and the greeting as an honest far end does, greets back, and then plays the scene. Nothing of Outrider
is used here but, in some scenes, its data codec, so that what is said is well formed where it is meant to be.
"""

import os
import signal
import struct
import sys
import time

(
    HELLO,
    CALL,
    RESULT,
    RAISED,
    CANCEL,
    RUN,
    DATA,
    CREDIT,
    IMPORT,
    SOURCE,
    CONTROL,
    FILES,
    PART,
    BYE,
    PING,
    PONG,
    ITEM,
) = range(1, 18)
STDOUT, STDERR, CONTENT, END, LARGE = 1, 2, 3, 0x40, 0x80
GREETING = b"\0OUTRIDER\0ready\n"
SECONDS = struct.pack("<d", 0.1)
ARGUMENT = sys.argv[2] if len(sys.argv) > 2 else ""


def dumps(value):
    from outrider.far import data

    return data.dumps(value)


def read(size):
    found = b""
    while len(found) < size:
        piece = os.read(0, min(size - len(found), 1 << 20))
        if not piece:
            os._exit(0)
        found += piece
    return found


def write(body):
    view = memoryview(body)
    while view:
        view = view[os.write(1, view) :]


def frame(kind, ident, payload=b"", flags=0):
    return struct.pack("<IIBB", len(payload), ident, kind, flags) + payload + b"\n"


def message(kind, ident, *segments, flags=0):
    table = struct.pack("<H", len(segments)) + b"".join(struct.pack("<Q", len(s)) for s in segments)
    return frame(kind, ident, table + b"".join(segments), flags)


def announced(kind, ident, *sizes, flags=0):
    return frame(
        kind,
        ident,
        struct.pack("<H", len(sizes)) + b"".join(struct.pack("<Q", n) for n in sizes),
        flags | LARGE,
    )


def next_frame():
    size, ident, kind, flags = struct.unpack("<IIBB", read(10))
    return kind, ident, flags, read(size + 1)[:-1]


def asked():
    """(kind, id) of the next request."""
    while True:
        kind, ident, _, _ = next_frame()
        if kind in (CALL, RUN, FILES, PING):
            return kind, ident


def value(ident, it, flags=0):
    write(message(RESULT, ident, SECONDS + dumps(it), flags=flags))


def sleep():
    while True:
        time.sleep(60)


def greet(**changes):
    about = {
        "problem": None,
        "python": [3, 11, 0],
        "host": "liar",
        "user": "liar",
        "pid": 1,
        "executable": "",
        "cwd": "/",
    }
    about.update(changes)
    read(int(read(8)))
    assert next_frame()[0] == HELLO
    write(message(HELLO, 0, dumps(about)))


# --- time -------------------------------------------------------------------------------------------------------------


def silent():
    asked()
    sleep()


def deaf():
    """Neither reads, nor answers, nor ends when its stdin does or when it is asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()


def drip():
    _, ident = asked()
    for byte in message(RESULT, ident, SECONDS + dumps("x" * 200)):
        write(bytes([byte]))
        time.sleep(0.2)


def drip_part():
    _, ident = asked()
    write(announced(RESULT, ident, 1 << 20) + struct.pack("<IIBB", 1 << 18, ident, PART, 0))
    while True:
        write(b"x")
        time.sleep(0.05)


def endless(body):
    body = body * max(1, 65536 // len(body))
    while True:
        write(body)


def others_answers():
    asked()
    endless(message(RESULT, 0x7000, SECONDS + dumps(1)))


def unknown_kinds():
    _, ident = asked()
    endless(message(99, ident, b"?"))


def greetings():
    asked()
    endless(message(HELLO, 0, dumps({"host": "again"})))


def stderr_flood():
    asked()
    while True:
        os.write(2, b"complaint " * 5000)


def begin_items():
    """A call's value is a generator."""
    _, ident = asked()
    write(message(ITEM, ident, SECONDS, flags=1))
    return ident


def items_that_never_come():
    begin_items()
    sleep()


def items_without_end():
    ident = begin_items()
    endless(message(ITEM, ident, dumps(1)))


def items_for_a_command():
    begin_items()
    sleep()


def item_of_a_terabyte():
    write(announced(ITEM, begin_items(), 1 << 40))
    sleep()


def item_that_is_a_pickle():
    write(message(ITEM, begin_items(), evil()))
    sleep()


def items_with_a_broken_beginning():
    _, ident = asked()
    write(message(ITEM, ident, b"x", b"y", flags=1))
    sleep()


def items_that_end_twice():
    ident = begin_items()
    write(message(ITEM, ident, dumps(5)) + 2 * message(RESULT, ident, SECONDS + dumps(None)))
    sleep()


def credit_drip():
    """Takes a transfer's bytes a few at a time, for ever."""
    _, ident = asked()
    while True:
        write(frame(CREDIT, ident, b"1"))
        time.sleep(0.05)


# --- memory -----------------------------------------------------------------------------------------------------------


def output_flood():
    _, ident = asked()
    endless(frame(DATA, ident, b"y" * 65000, STDOUT))


def output_in_crumbs():
    _, ident = asked()
    endless(frame(DATA, ident, b"y", STDERR))


def unasked_line():
    asked()
    endless(frame(DATA, 0, b"z" * 65000, STDOUT))


def content_flood():
    _, ident = asked()
    endless(frame(DATA, ident, b"c" * 65000, CONTENT))


def content_crumbs():
    _, ident = asked()
    endless(frame(DATA, ident, b"", CONTENT))


def unwanted_large():
    """Large answers that nobody asked for, each complete."""
    asked()
    part = b"p" * (1 << 18)
    ident = 0x1000
    while True:
        ident += 1
        write(announced(RESULT, ident, 4 << 18) + frame(PART, ident, part) * 4)


def too_large():
    _, ident = asked()
    write(announced(RESULT, ident, 1 << 40))
    sleep()


def never_complete():
    """As much as is allowed, and then no more."""
    _, ident = asked()
    write(announced(RESULT, ident, int(ARGUMENT)))
    for _ in range(int(ARGUMENT) // (1 << 18)):
        write(frame(PART, ident, b"p" * (1 << 18)))
    sleep()


def many_announcements():
    asked()
    for ident in range(1, 100000):
        write(announced(RESULT, ident, 1 << 24))
    sleep()


def announced_twice():
    _, ident = asked()
    write(announced(RESULT, ident, 1 << 22) * 2)
    sleep()


def many_segments():
    """As many tiny segments as a table holds."""
    _, ident = asked()
    write(announced(RESULT, ident, *[8 | 1 << 63] * 65000))
    for _ in range(65000):
        write(frame(PART, ident, b"12345678"))
    sleep()


def large_question():
    asked()
    write(announced(IMPORT, 0x80000001, 1 << 24))
    for _ in range(64):
        write(frame(PART, 0x80000001, b"l" * (1 << 18)))
    sleep()


def questions():
    """Asks without end for what there is, and never listens."""
    asked()
    endless(message(IMPORT, 0x80000001, dumps({"module": "outrider"})))


def bomb():
    """A value whose parts take far more memory than their bytes."""
    _, ident = asked()
    empty = {"sets": b"w*\0\0\0\0", "dicts": b"m\0", "nothings": b"N"}[ARGUMENT]
    body = SECONDS + b"l*" + struct.pack("<I", 2000000) + empty * 2000000
    write(announced(RESULT, ident, len(body)))
    for at in range(0, len(body), 1 << 18):
        write(frame(PART, ident, body[at : at + (1 << 18)]))
    sleep()


# --- answers of the wrong kind -----------------------------------------------------------------------------------------


def pong():
    _, ident = asked()
    write(message(PONG, ident, SECONDS + dumps(1)))
    sleep()


def result():
    _, ident = asked()
    value(ident, 1)
    sleep()


def twice():
    while True:
        _, ident = asked()
        value(ident, "first")
        value(ident, "second")
        write(message(RAISED, ident, dumps({"kind": "a", "message": "third", "traceback": ""})))


def bare():
    _, ident = asked()
    write(frame(RESULT, ident, b""))
    sleep()


def orders():
    """Gives its near end the orders that a near end gives."""
    _, ident = asked()
    for kind in (CALL, RUN, FILES, CANCEL, CONTROL, SOURCE, BYE, PING):
        for number in (ident, 0, 0x80000001):
            write(
                message(
                    kind, number, dumps({"op": "get", "path": "/etc/passwd", "argv": ["touch", ARGUMENT]})
                )
            )
    value(ident, "served")
    sleep()


def credit():
    _, ident = asked()
    write(frame(CREDIT, ident, ARGUMENT.encode()))
    sleep()


# --- code ---------------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch " + ARGUMENT,)


def evil():
    import pickle

    return pickle.dumps(Evil())


def pickled_result():
    _, ident = asked()
    write(message(RESULT, ident, SECONDS + evil()))
    sleep()


def pickled_beside():
    _, ident = asked()
    write(message(RESULT, ident, SECONDS, evil()))
    sleep()


def pickled_buffers():
    _, ident = asked()
    write(message(RESULT, ident, SECONDS, dumps(1), evil(), evil()))
    sleep()


def pickled_exception():
    _, ident = asked()
    about = {"kind": "builtins.ValueError", "message": "m", "traceback": "t"}
    write(message(RAISED, ident, dumps(about), evil(), evil(), flags=1))
    sleep()


def pickled_everywhere():
    _, ident = asked()
    write(message(RAISED, ident, evil(), evil(), flags=0x3F))
    sleep()


def marshalled():
    import marshal

    _, ident = asked()
    write(message(RESULT, ident, SECONDS + marshal.dumps(compile("import os; os.abort()", "x", "exec"))))
    sleep()


def said():
    """A value given as Python source."""
    _, ident = asked()
    write(message(RESULT, ident, SECONDS + eval(ARGUMENT)))
    sleep()


# --- files --------------------------------------------------------------------------------------------------------------


def files():
    """Answers a get with the stream that ARGUMENT, Python source, gives."""
    import listings

    _, ident = asked()
    stream = eval(ARGUMENT, {**vars(listings), "ROOT": listings.listing(), "evil": evil, "dumps": dumps})
    for at in range(0, len(stream), 65536):
        write(frame(DATA, ident, stream[at : at + 65536], CONTENT))
    write(message(RESULT, ident, dumps({"files": 1})))
    sleep()


def wants():
    """Answers a put with what it wants of it."""
    _, ident = asked()
    write(frame(DATA, ident, eval(ARGUMENT), CONTENT))
    sleep()


# --- words --------------------------------------------------------------------------------------------------------------

STEERING = b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m\xc2\x1b[m\x9b1m\x9b2m plain words \x07\x1b\x1b[c"


def steering():
    """Every text that is shown somewhere tries to steer the terminal."""
    _, ident = asked()
    write(frame(DATA, ident, STEERING + b"\n", STDOUT) + frame(DATA, ident, STEERING + b"\n", STDERR))
    write(frame(DATA, 0, STEERING + b"\n", STDOUT))
    if ARGUMENT == "raises":
        text = STEERING.decode(errors="replace")
        write(message(RAISED, ident, dumps({"kind": text, "message": text, "traceback": text, "start": 127})))
    elif ARGUMENT == "dies":
        os.write(2, STEERING + b"\n")
        os._exit(3)
    elif ARGUMENT == "run":
        write(message(RESULT, ident, dumps({"returncode": 0, "duration": 0.1})))
    else:
        value(ident, STEERING.decode(errors="replace"))
    sleep()


def phishing():
    """Prints a hop's prompt, and tells what it is given."""
    _, ident = asked()
    for _ in range(5):
        os.write(2, ARGUMENT.encode())
        time.sleep(0.05)
    os.set_blocking(0, False)
    time.sleep(0.5)
    try:
        given = os.read(0, 1000)
    except BlockingIOError:
        given = b""
    value(ident, given)
    os.set_blocking(0, True)
    sleep()


# --- openings -----------------------------------------------------------------------------------------------------------


def no_greeting():
    while True:
        write(b".")
        time.sleep(0.05)


def half_a_greeting():
    write(GREETING)
    read(int(read(8)))
    write(struct.pack("<IIBB", 100000, 0, HELLO, 0))
    while True:
        write(b" ")
        time.sleep(0.05)


def noise():
    endless(b"welcome\n")


def not_reading():
    write(GREETING)
    sleep()


def hostile_name():
    write(GREETING)
    greet(host=STEERING.decode(errors="replace"), user="x\ny" * 1000)
    twice()


OPENINGS = (no_greeting, half_a_greeting, noise, not_reading, hostile_name)

if __name__ == "__main__":
    scene = globals()[sys.argv[1]]
    try:
        if scene not in OPENINGS:
            write(GREETING)
            greet()
        scene()
    except BrokenPipeError:
        os._exit(0)
