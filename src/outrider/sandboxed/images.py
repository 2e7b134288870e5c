"""Sandbox images by name: archives of root folders, kept here with their hash, unpacked once where they are needed."""

from __future__ import annotations

import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname, urlopen

from outrider.errors import ConfigError, OutriderError, Refused, RouteError
from outrider.far import images as far_images
from outrider.far import wire
from outrider.near import calls
from outrider.session import call_far

if TYPE_CHECKING:
    from outrider.session import Session

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,100}")
HASH = re.compile(r"[0-9a-fA-F]{64}")
MOST = 16 << 30
"""Bytes of an archive, at the most."""
PATIENCE = 60.0
"""Seconds that a server may be silent."""
UNPACKED_WITHIN = 1800.0


@dataclass(frozen=True)
class Image:
    """`sha256`: of its archive, which has `size` bytes; `source`: where it came from; `unpacked`: bytes of all its files."""

    name: str
    sha256: str
    size: int
    source: str
    unpacked: int = 0
    changed: tuple[int, int] = (0, 0)
    """Of the archive as it was last read whole: its time of modification, and its inode."""

    @property
    def archive(self) -> Path:
        return home() / f"{self.sha256}.tar"


# --- the images here --------------------------------------------------------------------------------------------------


def home() -> Path:
    """The folder of the images here: of archives by hash, and of names."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "outrider" / "sandbox-images"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise Refused(
            f"{folder} must be yours, and nobody else may write there",
            hop="sandbox",
            hint=f"chmod 700 {folder}, or set XDG_CACHE_HOME to another folder",
        )
    return folder


def listed() -> list[Image]:
    """All images here, by name."""
    found = (_read(path) for path in sorted(home().glob("*.json")))
    return [image for image in found if image is not None]


def named(name: str) -> Image:
    """The image of that name; ConfigError if there is none."""
    image = _read(home() / f"{_checked(name)}.json")
    if image is None:
        known = ", ".join(each.name for each in listed())
        raise _wrong(
            f"there is no sandbox image {name!r}",
            hint=(f"there are {known}; " if known else "")
            + f"make it with: outrider sandbox images add {name} SOURCE",
        )
    return image


def add(name: str, source: str | os.PathLike[str], sha256: str | None = None) -> Image:
    """Keep an image: from an archive or a folder here, or from the URL of an archive. Its name leads to the new one at once.

    sha256: the hash that the archive must have. ConfigError if it has another, or cannot be an image: if something in it
    leads out, is a device outside /dev, or is too much. Refused for what comes over the network in the open, without a hash.
    """
    _checked(name)
    if sha256 is not None and not HASH.fullmatch(sha256):
        raise _wrong(f"not a SHA-256 hash: {sha256!r}", hint="64 digits, as sha256sum prints them")
    with _locked(), _new_file() as path:
        _sweep(path)
        _take(os.fspath(source), path, sha256 is not None)
        digest = far_images.digest_of(path)
        if sha256 is not None and digest != sha256.lower():
            raise _wrong(
                f"{source} has the SHA-256 {digest}, not {sha256}",
                hint="it is another file, or it was changed on the way: do not use it",
            )
        about = path.stat()
        known = (about.st_mtime_ns, about.st_ino)
        image = Image(name, digest, about.st_size, os.fspath(source), _tried(path), known)
        before = _read(home() / f"{name}.json")
        path.replace(image.archive)
        _write(image)
        if before is not None:
            _drop(before)
    return image


def remove(name: str) -> None:
    """Forget a name, and the archive if no other name leads to it. What far ends have of it stays there."""
    with _locked():
        image = named(name)
        (home() / f"{name}.json").unlink()
        _drop(image)


def check(name: str, *, whole: bool = True) -> Image:
    """Look whether an image is still what it was; ConfigError if not.

    whole: read all of it again; else only if its size or time has changed since that was done.
    """
    image = named(name)
    try:
        about = image.archive.stat()
        known = (about.st_mtime_ns, about.st_ino)
        same = about.st_size == image.size and (
            (known == image.changed and not whole) or far_images.digest_of(image.archive) == image.sha256
        )
    except OSError:
        same = False
    if not same:
        raise _wrong(
            f"the sandbox image {name!r} was changed or lost since it was added",
            hint=f"add it again: outrider sandbox images add {name} {image.source}",
        )
    return image


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, hop="sandbox", key="image", hint=hint)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise _wrong(f"not a name for an image: {name!r}", hint="letters, digits, and . _ + - within")
    return name


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time changes what is here."""
    with far_images.Lock(home() / "lock"):
        yield


def _sweep(own: Path) -> None:
    """Remove what others, who were ended, left half done. Only who holds the lock makes such, so nobody needs it."""
    for path in home().glob(".new-*"):
        if path.is_dir():
            far_images.remove(path)
        elif path != own:
            path.unlink()


def _drop(image: Image) -> None:
    if all(other.sha256 != image.sha256 for other in listed()):
        with suppress(FileNotFoundError):
            image.archive.unlink()


@contextmanager
def _new_file() -> Iterator[Path]:
    """A file beside the others, gone at the end unless it was moved to its place."""
    fd, path = tempfile.mkstemp(dir=home(), prefix=".new-")
    os.close(fd)
    try:
        yield Path(path)
    finally:
        with suppress(FileNotFoundError):
            Path(path).unlink()


def _read(path: Path) -> Image | None:
    try:
        told = json.loads(path.read_text())
        return Image(**{**told, "changed": tuple(told.get("changed", (0, 0)))})
    except (OSError, ValueError, TypeError, AttributeError):  # not there, or not ours
        return None


def _write(image: Image) -> None:
    with _new_file() as path:
        path.write_text(json.dumps(asdict(image)))
        path.replace(home() / f"{image.name}.json")


# --- where they come from ---------------------------------------------------------------------------------------------


def _take(source: str, path: Path, hashed: bool) -> None:
    """Have the archive that `source` leads to in the file `path`."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        _fetch(source, path, hashed)
        return
    if parts.scheme and "://" in source and parts.scheme != "file":
        raise _wrong(f"cannot fetch {source}", hint="https, http and file are known")
    here = Path(url2pathname(parts.path) if parts.scheme == "file" else source).expanduser()
    try:
        if here.is_dir():
            _pack(here, path)
        else:
            with here.open("rb") as file, path.open("wb") as copy:
                _copy(file, copy)
    except OSError as error:
        raise _wrong(f"cannot read {here}: {error.strerror or error}") from error


def _fetch(url: str, path: Path, hashed: bool) -> None:
    if not hashed:
        _refuse_in_the_open(url)
    try:
        with urlopen(url, timeout=PATIENCE) as answer, path.open("wb") as file:
            if not hashed:
                _refuse_in_the_open(answer.geturl())
            told = answer.headers.get("Content-Length")
            taken = _copy(answer, file)
    except (OSError, ValueError) as error:
        raise OutriderError(
            f"cannot fetch {url}: {error}", hop="sandbox", hint="is the address right, and the server up?"
        ) from error
    if told is not None and told.isdigit() and int(told) != taken:
        raise OutriderError(
            f"{url} ended after {taken} of {told} bytes",
            hop="sandbox",
            hint="try again: the connection broke",
        )


def _refuse_in_the_open(url: str) -> None:
    """What anybody on the way can change is taken only if its hash says what it must be."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise Refused(
            f"{url} comes over the network unprotected, and no hash says what it must be",
            hop="sandbox",
            hint="give the hash that its maker publishes: --sha256 HASH; or use https",
        )


def _copy(source: IO[bytes], target: IO[bytes]) -> int:
    total = 0
    while piece := source.read(1 << 20):
        total += len(piece)
        if total > MOST:
            raise _wrong(f"the archive has more than {MOST} bytes")
        target.write(piece)
    return total


def _pack(folder: Path, path: Path) -> None:
    """A folder as an archive; the same each time, as long as nothing in the folder changes."""

    def member(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
        found.uid = found.gid = 0
        found.uname = found.gname = ""
        # Special files of a system that is not running have no use; others are told of when it is unpacked.
        parts = found.name.split("/")
        return None if found.isdev() and len(parts) > 1 and parts[1] in far_images.OF_A_KERNEL else found

    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, arcname=".", filter=member)


def _tried(path: Path) -> int:
    """Unpack it once, so that a bad one is refused now and here; how many bytes its files have."""
    folder = tempfile.mkdtemp(dir=home(), prefix=".new-")
    try:
        unpacked: int = far_images.unpack(path, folder)
    except (OSError, far_images.ImageError) as error:
        raise _wrong(
            f"that is no image: {error}",
            hint="a root folder, or a tar archive of one, possibly compressed",
        ) from error
    finally:
        far_images.remove(folder)
    return unpacked


# --- the way to a far end ---------------------------------------------------------------------------------------------


def send(session: Session, name: str) -> str:
    """Have an image at the far end; the path of its root folder there. It travels, and is unpacked, once."""
    image = check(name, whole=False)
    found = _ask(session, "have", image.sha256)
    if found:
        return found
    archive = _ask(session, "landing", image.sha256)
    session.put(image.archive, archive)
    return _ask(session, "install", {"digest": image.sha256, "archive": archive})


def _ask(session: Session, function: str, argument: Any) -> str:
    kind, _, segments = call_far(session.connection, "images", function, argument, UNPACKED_WITHIN)
    if kind == wire.RAISED:
        about = calls.answer(segments, {"message": str})
        raise RouteError(
            f"the sandbox image cannot be made there: {about['message']}",
            hop=session.place,
            hint="look at the free space in ~/.cache there; OUTRIDER_IMAGES names another folder",
        )
    _, value = calls.returned(segments, session.connection.options.trust, session.place)
    return str(value)
