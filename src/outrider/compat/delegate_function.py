"""The names of the package delegate-function, over routes: each delegate stands for hops, a chain of them for a route.

    from outrider.compat.delegate_function import DelegateChain, DockerDelegate, SSHDelegate

What is different: nothing is installed at the far end and no folder is shared, so `temporary_file_root` and
`delegate_executable_path` are accepted and without effect; attributes deleted there are deleted here; `invoke` of a
`TemporaryDirectoryDelegate` or `DelegateGenerator` returns the value too; YAML is read with the safe loader. A
delegate of your own overrides `hops`, not the internals.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from outrider.chain import Chain
from outrider.command import Command
from outrider.hops import docker, local, slurm, ssh, sudo, tempdir
from outrider.hops.base import Hop
from outrider.route import Route

DEBUG_VARIABLE = "DELEGATE_FUNCTION_DEBUG_ENABLED"
CONFIG_VARIABLE = "DELEGATE_FUNCTION_CONFIG"


class DelegateFunctionException(Exception):
    """A delegate could not be passed, or what was invoked raised there: then with the far traceback."""


class ShellCommandClass:
    """A command for your terminal: `invoke(ShellCommandClass(["bash"]), "run")` runs it there, interactively."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.argv = argv
        self.env = dict(env or {})

    def run(self, place: Chain | None = None) -> None:
        command = (place or Chain()).with_terminal().wrap(Command(self.argv, self.env))
        subprocess.run(command.argv, env={**os.environ, **command.env}, cwd=command.cwd, check=False)


def shell_hook() -> tuple[ShellCommandClass, str, list[Any], dict[str, Any]]:
    """What `debug_pre_hook="SHELL"` means: a shell in the place where the delegate starts."""
    return ShellCommandClass(["bash", "--norc"]), "run", [], {}


def is_debug_enabled() -> bool:
    return os.environ.get(DEBUG_VARIABLE) == "yes"


class BaseDelegate:
    """Runs methods where its hops, and then those of its `subdelegate`, lead.

    `debug_pre_hook`: (object, method, args, kwargs) to be run where this delegate starts, or "SHELL"; only with
    DELEGATE_FUNCTION_DEBUG_ENABLED=yes in the near end's environment. `interactive`: a `ShellCommandClass` gets your
    terminal.
    """

    def __init__(
        self, subdelegate: BaseDelegate | None = None, debug_pre_hook: Any = None, interactive: bool = False
    ) -> None:
        self._subdelegate = subdelegate
        self._debug_pre_hook = shell_hook() if debug_pre_hook == "SHELL" else debug_pre_hook
        self._interactive = bool(interactive or self._debug_pre_hook)

    def set_subdelegate(self, subdelegate: BaseDelegate | None) -> None:
        self._subdelegate = subdelegate

    def hops(self, before: Route) -> Sequence[Hop]:
        """The hops that this delegate stands for; `before` leads to where it starts."""
        return ()

    def route(self) -> Route:
        """The route that this delegate and its subdelegates stand for. Runs their debug hooks on the way."""
        with _translated():
            return self._continue(Route())

    def invoke(self, obj: Any, method: str, *argc: Any, **kwargs: Any) -> Any:
        """Run `obj.method(*argc, **kwargs)` there and return its value; what it changed in `obj` is changed here."""
        return _invoke(self.route(), obj, method, argc, kwargs, self._interactive)

    def _continue(self, before: Route) -> Route:
        self._execute_debug_pre_hook(before)
        route = before
        for hop in self.hops(before):
            route = route | hop
        return self._subdelegate._continue(route) if self._subdelegate else route

    def _execute_debug_pre_hook(self, before: Route) -> None:
        if not self._debug_pre_hook:
            return
        if not is_debug_enabled():
            print(
                f"{type(self).__name__}: the debug hook is not run; {DEBUG_VARIABLE}=yes on {platform.node()} "
                "would allow it, and with it any code anywhere on the way",
                file=sys.stderr,
            )
            return
        obj, method, argc, kwargs = self._debug_pre_hook
        _invoke(before, obj, method, argc, kwargs, interactive=True)


def _invoke(
    route: Route, obj: Any, method: str, argc: Sequence[Any], kwargs: Mapping[str, Any], interactive: bool
) -> Any:
    if not route.hops:
        return getattr(obj, method)(*argc, **kwargs)
    with _translated():
        if interactive and isinstance(obj, ShellCommandClass):
            return obj.run(route)
        return route.invoke(obj, method, *argc, **kwargs)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DelegateFunctionException:
        raise
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        raise DelegateFunctionException(f"Delegate execution failed: {text}") from error


class TrivialDelegate(BaseDelegate):
    """No step at all; alone, it invokes in this very process."""


class TemporaryDirectoryDelegate(BaseDelegate):
    """A fresh folder that is gone afterwards."""

    def hops(self, before: Route) -> Sequence[Hop]:
        return (tempdir(),)


class SubprocessDelegate(BaseDelegate):
    """A fresh Python process in the same place."""

    def __init__(
        self,
        *argc: Any,
        temporary_file_root: str | None = None,
        delegate_executable_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*argc, **kwargs)

    def hops(self, before: Route) -> Sequence[Hop]:
        return (local(),)


class SudoDelegate(SubprocessDelegate):
    """Another user, by sudo."""

    def __init__(
        self, *args: Any, user: str | None = None, sudo_args: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self._sudo_args = list(sudo_args or ())

    def hops(self, before: Route) -> Sequence[Hop]:
        return (sudo(self._user, extra=self._sudo_args),)


class SSHDelegate(SubprocessDelegate):
    """Another machine, by ssh."""

    def __init__(
        self, user: str | None, host: str, *args: Any, ssh_options: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self._host = host
        self._ssh_options = list(ssh_options or ())

    def hops(self, before: Route) -> Sequence[Hop]:
        return (ssh(self._host, user=self._user, extra=self._ssh_options),)


class SlurmDelegate(SubprocessDelegate):
    """A Slurm job; within one, a step of it."""

    def hops(self, before: Route) -> Sequence[Hop]:
        return (slurm(),)


class DockerDelegate(SubprocessDelegate):
    """A new Docker container. An `--entrypoint` among `docker_cmd_line_args` gets the command as its arguments."""

    def __init__(
        self, docker_image: str, *argc: Any, docker_cmd_line_args: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*argc, **kwargs)
        self._docker_image = docker_image
        self._docker_cmd_line_args = list(docker_cmd_line_args or ())

    def hops(self, before: Route) -> Sequence[Hop]:
        words = self._docker_cmd_line_args
        entrypoint = any(word.partition("=")[0] == "--entrypoint" for word in words)
        return (docker(self._docker_image, workdir="/tmp", keep_entrypoint=entrypoint, extra=words),)


class SuDockerDelegate(DockerDelegate):
    """A Docker container, started by sudo."""

    def __init__(
        self,
        *argc: Any,
        docker_user: str | None = None,
        sudo_args: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*argc, **kwargs)
        self._docker_user = docker_user
        self._sudo_args = list(sudo_args or ())

    def hops(self, before: Route) -> Sequence[Hop]:
        return (sudo(self._docker_user, extra=self._sudo_args), *super().hops(before))


class YAMLDelegate(BaseDelegate):
    """The delegates that a YAML file tells, read where this delegate starts, and when it is invoked."""

    def __init__(self, configuration_file: str, *argc: Any, **kwargs: Any) -> None:
        if "debug_pre_hook" in kwargs:
            raise DelegateFunctionException(f"{type(self).__name__} takes no 'debug_pre_hook'")
        super().__init__(*argc, **kwargs)
        self._configuration_file = configuration_file

    def hops(self, before: Route) -> Sequence[Hop]:
        environment = _environment(before)
        text = _read(before, self._file(environment))
        return DelegateGenerator(yaml=text)._expanded(environment)._continue(before).hops[len(before) :]

    def _file(self, environment: Mapping[str, str]) -> str:
        return self._configuration_file


class LateBoundYAMLDelegate(YAMLDelegate):
    """As YAMLDelegate; the file is named by DELEGATE_FUNCTION_CONFIG in the environment of the place where it starts.

    Where the host must decide for its own protection, use the hop `relay`, which leaves the caller no choice.
    """

    def __init__(self, *argc: Any, **kwargs: Any) -> None:
        super().__init__("", *argc, **kwargs)

    def _file(self, environment: Mapping[str, str]) -> str:
        if CONFIG_VARIABLE not in environment:
            raise DelegateFunctionException(
                f"{CONFIG_VARIABLE} must be set where the LateBoundYAMLDelegate starts"
            )
        return environment[CONFIG_VARIABLE]


def _environment(place: Route) -> Mapping[str, str]:
    if not place.hops:
        return os.environ
    listing = place.run(["env", "-0"], check=True).stdout
    return dict(os.fsdecode(line).split("=", 1) for line in listing.split(b"\0") if b"=" in line)


def _read(place: Route, file: str) -> str:
    return place.run(["cat", "--", file], check=True).text if place.hops else Path(file).read_text()


def DelegateChain(*argc: Callable[..., BaseDelegate], **kwargs: Any) -> Callable[[], BaseDelegate]:  # noqa: N802
    """A factory of chains: each of `argc`, a delegate class or factory, is given the next one and `kwargs`."""

    def factory() -> BaseDelegate:
        following: BaseDelegate | None = None
        options = dict(kwargs)
        for make in reversed(argc):
            if following is not None and following._interactive:
                options["interactive"] = True
            following = make(subdelegate=following, **options)
        return following or TrivialDelegate()

    names = [getattr(make, "__name__", "Delegate") for make in argc]
    factory.__name__ = "".join(name.replace("Delegate", "") for name in names)
    factory.pytest_name = "_to_".join(names)  # type: ignore[attr-defined]
    return factory


class DelegateGenerator(BaseDelegate):
    """The chain that a YAML text or file describes: `version: 0.1`, `sequence:` of `type:` and that type's arguments.

    In arguments, `$NAME` and `${NAME}` are environment variables when it is invoked; one that is not set stays as it is.
    """

    def __init__(self, filename: str | os.PathLike[str] | None = None, yaml: str | None = None) -> None:
        super().__init__()
        if (filename is None) == (yaml is None):
            raise DelegateFunctionException("DelegateGenerator wants either filename= or yaml=")
        self._sequence = _sequence(Path(filename).read_text() if filename is not None else str(yaml))

    def _continue(self, before: Route) -> Route:
        chain = self._expanded(os.environ)
        last = chain
        while last._subdelegate is not None:
            last = last._subdelegate
        last.set_subdelegate(self._subdelegate)
        return chain._continue(before)

    def _expanded(self, environment: Mapping[str, str]) -> BaseDelegate:
        return DelegateChain(*(_factory(_expand(entry, environment)) for entry in self._sequence))()


def _sequence(text: str) -> list[dict[str, Any]]:
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise DelegateFunctionException("YAML needs PyYAML: pip install 'outrider[compat]'") from error
    try:
        spec = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DelegateFunctionException(f"not valid YAML: {error}") from error
    if not isinstance(spec, dict) or not isinstance(spec.get("sequence"), list):
        raise DelegateFunctionException("wants `version: 0.1` and a list `sequence:`")
    if spec.get("version", 0.1) != 0.1:
        raise DelegateFunctionException(f"version {spec['version']!r} is not known, only 0.1")
    for entry in spec["sequence"]:
        _kind(entry)
    return list(spec["sequence"])


def _kind(entry: Any) -> type[BaseDelegate]:
    kind = globals().get(str(entry.get("type"))) if isinstance(entry, dict) else None
    if not (isinstance(kind, type) and issubclass(kind, BaseDelegate)):
        raise DelegateFunctionException(f"Illegal delegate name: {entry!r}")
    return kind


def _factory(entry: dict[str, Any]) -> Callable[..., BaseDelegate]:
    def make(**kwargs: Any) -> BaseDelegate:
        return _kind(entry)(**{name: value for name, value in entry.items() if name != "type"}, **kwargs)

    return make


def _expand(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(
            r"\$(?:(\w+)|\{(\w+)\})", lambda found: environment.get(found[1] or found[2], found[0]), value
        )
    if isinstance(value, list):
        return [_expand(item, environment) for item in value]
    if isinstance(value, dict):
        return {name: _expand(item, environment) for name, item in value.items()}
    return value
