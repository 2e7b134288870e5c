"""Sandbox images by name: archives of root folders, kept here with their hash, unpacked once where they are needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider import calls
from outrider.errors import ConfigError, OutriderError, RouteError
from outrider.far import images as far_images
from outrider.far import wire
from outrider.session import call_far

if TYPE_CHECKING:
    from outrider.session import Session

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,100}")


@dataclass(frozen=True)
class Image:
    """`sha256`: of its archive, which has `size` bytes; `source`: where it came from."""

    name: str
    sha256: str
    size: int
    source: str

    @property
    def archive(self) -> Path:
        return home() / f"{self.sha256}.tar"


def home() -> Path:
    """The folder of the images here: of archives by hash, and of names."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "outrider" / "sandbox-images"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def listed() -> list[Image]:
    """All images here, by name."""
    return [_read(path) for path in sorted(home().glob("*.json"))]


def named(name: str) -> Image:
    """The image of that name; ConfigError if there is none."""
    path = home() / f"{_checked(name)}.json"
    if not path.exists():
        known = ", ".join(image.name for image in listed())
        raise ConfigError(
            f"there is no sandbox image {name!r}",
            hop="sandbox",
            key="image",
            hint=(f"there are {known}; " if known else "")
            + f"make it with: outrider sandbox images add {name} SOURCE",
        )
    return _read(path)


def add(name: str, source: str, sha256: str | None = None) -> Image:
    """Keep an image: from an archive or a folder here, or from the URL of an archive. Its name leads to the new one at once.

    sha256: the hash that the archive must have. ConfigError if it has another, or cannot be an image.
    """
    _checked(name)
    with _new_file() as path:
        if re.match(r"(https?|file)://", source):
            _fetch(source, path)
        elif Path(source).is_dir():
            _pack(Path(source), path)
        else:
            try:
                shutil.copyfile(source, path)
            except OSError as error:
                raise ConfigError(
                    f"cannot read {source}: {error.strerror}", hop="sandbox", key="image"
                ) from error
        image = Image(name, far_images.digest_of(path), path.stat().st_size, source)
        if sha256 is not None and image.sha256 != sha256.lower():
            raise ConfigError(
                f"{source} has the SHA-256 {image.sha256}, not {sha256}",
                hop="sandbox",
                key="image",
                hint="it is another file, or it was changed on the way: do not use it",
            )
        _try(path)
        path.replace(image.archive)
    _write(image)
    return image


def remove(name: str) -> None:
    """Forget a name, and the archive if no other name leads to it. What far ends have of it stays there."""
    image = named(name)
    (home() / f"{name}.json").unlink()
    if all(other.sha256 != image.sha256 for other in listed()):
        with suppress(FileNotFoundError):
            image.archive.unlink()


def check(name: str) -> Image:
    """Read all of an image again; ConfigError if it is no longer what it was."""
    image = named(name)
    if not image.archive.exists() or far_images.digest_of(image.archive) != image.sha256:
        raise ConfigError(
            f"the sandbox image {name!r} was changed or lost since it was added",
            hop="sandbox",
            key="image",
            hint=f"add it again: outrider sandbox images add {name} {image.source}",
        )
    return image


def send(session: Session, name: str) -> str:
    """Have an image at the far end; the path of its root folder there. It travels, and is unpacked, once."""
    image = check(name)
    found: str = _ask(session, "have", image.sha256)
    if found:
        return found
    archive: str = _ask(session, "landing", image.sha256)
    session.put(image.archive, archive)
    root: str = _ask(session, "install", {"digest": image.sha256, "archive": archive})
    return root


def _ask(session: Session, function: str, argument: Any) -> Any:
    kind, _, segments = call_far(session.connection, "images", function, argument)
    if kind == wire.RAISED:
        about = calls.answer(segments, {"message": str})
        raise RouteError(
            f"the sandbox image cannot be made there: {about['message']}",
            hop=session.place,
            hint="look at the free space in ~/.cache there; OUTRIDER_IMAGES names another folder",
        )
    value, _ = calls.unpack(segments, session.trust)
    return value


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"not a name for an image: {name!r}",
            hop="sandbox",
            key="image",
            hint="letters, digits, and . _ + - within",
        )
    return name


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


def _fetch(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    except (OSError, ValueError) as error:
        raise OutriderError(
            f"cannot fetch {url}: {error}", hop="sandbox", hint="is the address right?"
        ) from error


def _pack(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".", filter=lambda member: None if member.isdev() else member)


def _try(path: Path) -> None:
    """Unpack it once, so that a bad one is refused now and here."""
    with tempfile.TemporaryDirectory(dir=home(), prefix=".try-") as folder:
        try:
            far_images.unpack(path, folder)
        except (tarfile.TarError, EOFError, OSError, far_images.ImageError) as error:
            raise ConfigError(
                f"that is no image: {error}",
                hop="sandbox",
                key="image",
                hint="a root folder, or a tar archive of one, possibly compressed",
            ) from error
        finally:
            far_images.remove(folder)
            Path(folder).mkdir(exist_ok=True)


def _read(path: Path) -> Image:
    return Image(**json.loads(path.read_text()))


def _write(image: Image) -> None:
    with _new_file() as path:
        path.write_text(json.dumps(asdict(image)))
        path.replace(home() / f"{image.name}.json")
