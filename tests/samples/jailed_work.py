"""What the tests call in sandboxes: no import of pytest, since there is none inside."""

import os
import pickle


def counts(upto):
    yield from range(upto)


def counts_then_spins(upto):
    yield from range(upto)
    while True:
        pass


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/outrider-was-here",)


def raises_hostile():
    error = ValueError("told")
    error.more = Hostile()
    raise error


def writes_over_the_stream():
    for fd in range(3, 200):
        try:
            os.write(fd, b"\x80\x04cposix\nsystem\n" * 100)
        except OSError:
            pass
    os.write(1, b"printed")
    return "survived"


def yields_hostile():
    yield 1
    yield Hostile()


class Counter:
    def __init__(self):
        self.count = 1

    def add(self, number):
        self.count += number
        return self.count


def forges_answers():
    """Say by itself what the far end's program would: that each request has a pickle for an answer."""
    from _outrider_far import wire  # what this Python was sent

    evil = pickle.dumps(Hostile())
    frames = b"".join(
        wire.lone(kind, ident, prefix + evil)
        for kind in (wire.RESULT, wire.RAISED, wire.ITEM)
        for ident in range(60)
        for prefix in (b"", bytes(8))
    )
    for fd in range(3, 200):
        try:
            os.write(fd, frames)
        except OSError:
            pass
    os._exit(0)


def prints_much(count, then):
    print("x" * count, flush=True)
    if then:
        raise ValueError(then)
    return count


def prints_and_counts(upto):
    for number in range(upto):
        print("x" * 5000)
        yield number
