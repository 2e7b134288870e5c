"""Messages with descriptors between processes: the last words of one that goes with something unread."""

from __future__ import annotations

from outrider.far import channel


def ends():
    one, other = channel.pair()
    return channel.Channel(one), channel.Channel(other)


def test_the_last_words_of_who_goes_with_something_unread():
    one, other = ends()
    one.send({"do": "this"})
    other.send({"unable": "why"})
    other.close()
    assert one.receive() == ({"unable": "why"}, [])
    assert one.receive() == (None, [])
    one.close()
    one.close()


def test_large_and_small():
    one, other = ends()
    for size in (0, 1, 70_000, 3_000_000):
        one.send({"body": b"x" * size})
        assert len(other.receive()[0]["body"]) == size
    one.close()
    assert other.receive() == (None, [])
    other.close()
