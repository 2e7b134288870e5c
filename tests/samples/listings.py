"""A transfer of files as raw bytes, right or wrong, for far ends that lie. Nothing of Outrider is used here."""

import struct


def item(kind, body=b"", size=None):
    return struct.pack("<BQ", kind, len(body) if size is None else size) + body


def listing(
    path=b"",
    names=(),
    sizes=(),
    mode=0o755,
    modes=None,
    times=None,
    links=(),
    targets=(),
    count=None,
    linked=None,
    numbers=b"",
):
    """One record as a far end may write it; `count`, `linked` and `numbers` make it a lie about itself."""
    listed = len(names)
    modes = [0o644] * listed if modes is None else modes
    times = [0] * listed if times is None else times
    texts = [path, b"\0".join(names), b"\0".join(links), b"\0".join(targets)]
    lengths = [len(text) for text in texts]
    counts = (listed if count is None else count, len(links) if linked is None else linked)
    body = struct.pack("<iqIIIIII", mode, 0, *counts, *lengths) + b"".join(texts)
    body += struct.pack("<%dQ%dq%dH" % (listed, listed, listed), *sizes, *times, *modes)
    return item(1, body + bytes(8 * len(links)) + numbers)


def content(body):
    return item(2, body)


END = item(3)
