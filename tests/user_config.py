"""A test user's own Outrider configuration, for the routes that a host decides."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def configured(user: str, text: str) -> Iterator[None]:
    """`text` is `user`'s config.toml while it lasts; nothing of it stays."""
    entry = pwd.getpwnam(user)
    file = Path(entry.pw_dir) / ".config" / "outrider" / "config.toml"
    made = [path for path in (file.parent.parent, file.parent, file) if not path.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    for path in made:
        os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        yield
    finally:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
