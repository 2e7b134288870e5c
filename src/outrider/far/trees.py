"""What both ends of a transfer of files share: the records that list a tree, and the ways into its folders.

A transfer is one stream from the end that sends to the end that takes in, and answers back:

    RECORD   one folder, or a part of a large one: its own mode and time, its files and links
    CONTENT  the bytes of those files of the next record that the answer asked for, one behind the other
    END

A record is answered with ALL, NONE, or SOME and a bit for each file. Records run ahead of the contents, so nobody waits for
an answer, and small files share frames; the stream knows nothing of frames. What runs ahead is bounded: a tree of any size
needs no more memory than AHEAD entries of it.

Below the root everything is opened relative to an open folder, and no link is followed.
"""

import os
import struct

PARTIAL = ".outrider-partial-"
"""How the names of what is not complete yet begin; never listed."""
RECORD, CONTENT, END = 1, 2, 3
ITEM = struct.Struct("<BQ")
"""What each item of the stream begins with: its kind, and the bytes that follow."""
_HEAD = struct.Struct("<iqIIIIII")
_NUMBERS = "<%dQ%dq%dH%dq"
ALL, NONE, SOME = b"A", b"N", b"S"
BATCH = 1000
"""Entries of a record at the most."""
AHEAD = 50000
"""Entries (and records) that may be listed before the contents of the first of them have been sent."""
MAX_RECORD = BATCH * (2 * 4096 + 32)
MAX_BYTES = 1 << 62
WINDOW = 8 << 20
"""Bytes that may be under way at the most, before the other end has taken some."""
CHUNK = 256 * 1024

O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_BITS = 0o1777
"""The mode of a file, without setuid and setgid: they speak of its owner, who does not travel."""
_NO_NAMES = {"", ".", ".."}


class TransferError(Exception):
    """Something about a path: said in plain words, with the path."""


def failure(path, error):
    """What an OSError about `path` is for the user."""
    return TransferError("%s: %s" % (path, error.strerror or error))


class Record:
    """Some files and links of one folder. `sizes`, `times` (ns) and `modes` belong to `names`; links: (name, target, time).

    `parts`: the names that lead to the folder, below the root. `mode` None: the root is no folder but the one file listed.
    """

    __slots__ = (
        "chosen",
        "links",
        "missing",
        "mode",
        "modes",
        "names",
        "new",
        "parts",
        "size",
        "sizes",
        "time",
        "times",
    )

    def __init__(self, parts, mode, mtime, names, sizes, times, modes, links):
        self.parts, self.mode, self.time = parts, mode, mtime
        self.names, self.sizes, self.times, self.modes, self.links = names, sizes, times, modes, links

    def entries(self):
        """What it counts for in AHEAD."""
        return 1 + len(self.names) + len(self.links)

    def choose(self, chosen):
        """Only these files, by their index, must travel."""
        sizes = self.sizes
        self.chosen = chosen
        self.size = sum([sizes[number] for number in chosen])


def packed(record):
    """A record as bytes: a head of counts and lengths, two columns of names and one of link targets, and the numbers."""
    links, count = record.links, len(record.names)
    columns = (
        "/".join(record.parts),
        "\0".join(record.names),
        "\0".join([link[0] for link in links]),
        "\0".join([link[1] for link in links]),
    )
    texts = [os.fsencode(column) for column in columns]
    mode = -1 if record.mode is None else record.mode
    numbers = (*record.sizes, *record.times, *record.modes, *[link[2] for link in links])
    return b"".join(
        (
            _HEAD.pack(mode, record.time, count, len(links), *[len(text) for text in texts]),
            *texts,
            struct.pack(_NUMBERS % (count, count, count, len(links)), *numbers),
        )
    )


def unpacked(body):
    """The record that the other end wrote, or TransferError: names that could lead elsewhere are refused."""
    try:
        mode, mtime, count, linked, *lengths = _HEAD.unpack_from(body)
        at, texts = _HEAD.size, []
        for length in lengths:
            texts.append(body[at : at + length])
            at += length
        if count + linked > BATCH:
            raise TransferError("a listing of more than it may have")
        numbers = struct.unpack(_NUMBERS % (count, count, count, linked), body[at:])
    except struct.error as error:
        raise TransferError("a listing that is none: %s" % error) from None
    path, names, links = texts[0], _names(texts[1], count), _names(texts[2], linked)
    targets = os.fsdecode(texts[3]).split("\0") if linked else []
    sizes, modes = numbers[:count], numbers[2 * count : 3 * count]
    good = -1 <= mode <= 0o7777 and (not count or max(modes) <= 0o7777) and sum(sizes) <= MAX_BYTES
    if not good or len(targets) != linked or not all(targets) or not set(names).isdisjoint(links):
        raise TransferError("a listing with a forbidden entry")
    parts = tuple(_names(path.replace(b"/", b"\0"), path.count(b"/") + 1, True)) if path else ()
    return Record(
        parts,
        None if mode < 0 else mode,
        mtime,
        names,
        sizes,
        numbers[count : 2 * count],
        [bits & FILE_BITS for bits in modes],
        list(zip(links, targets, numbers[3 * count :])),
    )


def _names(packed_names, count, repeated=False):
    names = os.fsdecode(packed_names).split("\0") if count else []
    if (
        len(names) != count
        or b"/" in packed_names
        or not _NO_NAMES.isdisjoint(names)
        or (not repeated and len(set(names)) != count)
    ):
        raise TransferError("a listing with a forbidden name: %.200r" % (packed_names[:200],))
    return names


def open_folder(name, above):
    """A descriptor of the folder `name` in the open folder `above`; a link is not followed."""
    return os.open(name, O_FOLDER, dir_fd=above)


def walk(base, parts, opened=open_folder):
    """A descriptor, to be closed, of the folder `parts` below the open folder `base`."""
    fd = base
    for part in parts:
        try:
            below = opened(part, fd)
        finally:
            if fd != base:
                os.close(fd)
        fd = below
    return os.dup(base) if fd == base else fd
