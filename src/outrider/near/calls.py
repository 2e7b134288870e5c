"""A function, an object and its modules → what travels, and back. No I/O."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from outrider.errors import FarError, Unserializable, VersionMismatch
from outrider.far import data, packing
from outrider.far.calls import DURATION
from outrider.far.loader import PACKAGE
from outrider.far.modules import MAIN
from outrider.far.state import SELF, state_of
from outrider.harmless import printable, printable_lines
from outrider.hops.nearness import nearest
from outrider.near import values
from outrider.near.sources import has_script

Segments = list[Any]
MAX_ANSWER_ABOUT = 1 << 26
"""Bytes that the fields of an answer may take, apart from its value: a traceback is the longest of them."""


def pack(
    call: tuple[Any, ...], far_python: tuple[int, ...], names: set[str] | None = None
) -> tuple[Segments, bool]:
    """(segments of a call: a pickle, then its buffers; whether cloudpickle made it, as something has no importable name).

    names: filled with the modules that the call names. Raises Unserializable, naming what cannot travel, or
    VersionMismatch where code would have to travel as bytecode between different minor versions of Python.
    """
    try:
        segments = _pack_by_name(call, names)
        if not (b"__main__" in segments[0] and not has_script()):
            return segments, False
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    segments = _pack_by_value(call)
    if names is not None:
        names.update(name for name in _strings(segments[0]) if name in sys.modules)
    if far_python[:2] != sys.version_info[:2] and _holds_bytecode(segments[0]):
        here, there = (".".join(map(str, version[:2])) for version in (sys.version_info, far_python))
        raise VersionMismatch(
            f"{_named(call[0])} would travel as bytecode (a lambda, a closure, or something typed in has no other form),"
            f" which Python {here} here and Python {there} there do not share",
        )
    return segments, True


def _pack_by_name(call: tuple[Any, ...], names: set[str] | None) -> Segments:
    """The quickest way for what the arguments are: nothing large can be among numbers."""
    if names is not None:

        def make(*arguments: Any, **options: Any) -> _NamingPickler:
            pickler = _NamingPickler(*arguments, **options)
            pickler.names = names
            return pickler

        return list(packing.dump(call, make))
    if not call[-1]:
        for argument in call[-2]:
            if type(argument) not in packing.SMALL:
                break
        else:
            return [pickle.dumps(call, 5)]
    return list(packing.dump(call))


class _NamingPickler(pickle.Pickler):
    """Notes the modules of all functions and classes that it writes the names of."""

    names: set[str]

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or type(value).__name__ in ("function", "builtin_function_or_method"):
            self.names.add(str(value.__module__))
        return NotImplemented


def _pack_by_value(call: tuple[Any, ...]) -> Segments:
    import cloudpickle

    try:
        segments: Segments = packing.dump(call, cloudpickle.Pickler)
    except Exception as error:
        raise Unserializable(f"{_named(call[0])} or its arguments cannot travel: {error}") from error
    return segments


def _strings(pickled: bytes) -> Iterator[str]:
    """All texts in a pickle, the names of modules and functions among them; nothing is built or run."""
    import pickletools  # slow to import, and few calls need it

    for _, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            yield argument


def _holds_bytecode(pickled: bytes) -> bool:
    return b"_make_function" in pickled and "_make_function" in set(_strings(pickled))


def _named(subject: Any) -> str:
    return str(getattr(subject, "__qualname__", None) or f"a {type(subject).__name__}")


def pack_far(module: str, function: str, argument: Any) -> Segments:
    """Segments of a call of the far end's own: a function that has a name only there."""
    body = pickle.dumps((argument,), 2)[2:-1]
    return [b"\x80\x02(c%s.%s\n%s\n%s}t." % (PACKAGE.encode(), module.encode(), function.encode(), body)]


def know_far_main() -> None:
    """Let answers name classes of the script, which the far end runs under another name."""
    if "__main__" in sys.modules:
        sys.modules.setdefault(MAIN, sys.modules["__main__"])


def unpack(segments: Sequence[Any], trust: str, subject: Any = None, room: int = 1 << 62) -> Any:
    """The value of an answer. With trust="data" nothing but plain data is built."""
    if trust == "data":
        try:
            return values.loads(segments[0], segments[1:], room)
        except data.DataError as error:
            raise FarError(
                f"the answer is {error}",
                hint="register what may come, raise max_answer, or, if it is none of these, do not trust that far end",
            ) from None
    know_far_main()
    if subject is None:
        return pickle.loads(segments[0], buffers=segments[1:])  # noqa: S301  # trust="pickle": this far end is trusted
    unpickler = _AnswerUnpickler(io.BytesIO(segments[0]), buffers=segments[1:])
    unpickler.subject = subject
    return unpickler.load()


def returned(
    segments: Segments, trust: str, place: str, subject: Any = None, room: int = 1 << 62
) -> tuple[float, Any]:
    """(seconds that it took, value) of a RESULT answer. A small value stands behind the seconds in their segment."""
    size = DURATION.size
    head = segments[0]
    rest = segments[1:] if len(head) == size else [head[size:]]
    if len(head) < size or not rest:
        raise FarError(
            "its answer is none", hop=place, hint="the far end does not keep to the protocol: do not trust it"
        )
    return DURATION.unpack_from(head)[0], unpack(rest, trust, subject, room)


def duration_of(segments: Segments, place: str) -> float:
    """Seconds that it took to make the generator whose items follow."""
    if len(segments) != 1 or len(segments[0]) != DURATION.size:
        raise FarError(
            "its answer is none", hop=place, hint="the far end does not keep to the protocol: do not trust it"
        )
    seconds: float = DURATION.unpack(segments[0])[0]
    return seconds


def was_cancelled(segments: Sequence[Any]) -> bool:
    """True if a RAISED answer says no more than that the call was cancelled, as it was asked to be."""
    return answer(segments, {"kind": str})["kind"].endswith(".CallCancelled")  # type: ignore[no-any-return]


class _AnswerUnpickler(pickle.Unpickler):
    subject: Any = None

    def persistent_load(self, pid: Any) -> Any:
        if pid == SELF:
            return self.subject
        raise pickle.UnpicklingError(f"an answer names something unknown: {pid!r}")


def known_names(subject: object) -> set[str]:
    """Names of the attributes that travel with `subject`: one that is missing on its return was deleted there."""
    state = state_of(subject)[0]
    attributes, slots = _attributes(state)
    return set(attributes) | set(slots)


def _attributes(state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(instance attributes, slots) of a state in the form that `object.__reduce_ex__` gives."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        return state[0] or {}, state[1]
    return (state, {}) if isinstance(state, dict) else ({}, {})


def restore(subject: Any, state: tuple[Any, Any, Any], sent: set[str]) -> None:
    """Bring `subject` to where the far copy is: attributes changed, added and deleted; it keeps its identity."""
    attributes_state, items, pairs = state
    if hasattr(subject, "__setstate__"):
        if attributes_state is not None:
            subject.__setstate__(attributes_state)
    else:
        attributes, slots = _attributes(attributes_state)
        for name in sent - set(attributes) - set(slots):
            try:
                object.__delattr__(subject, name)
            except AttributeError:
                pass
        if attributes:
            vars(subject).update(attributes)
        for name, value in slots.items():
            object.__setattr__(subject, name, value)
    if items is not None or isinstance(subject, list):
        subject[:] = items or []
    if pairs is not None or isinstance(subject, dict):
        subject.clear()
        subject.update(pairs or [])


def plain_state(state: Any, subject: object) -> tuple[Any, Any, Any]:
    """An object's state as an untrusted far end tells it, or FarError: plain data for attributes and items, and no more."""
    good = isinstance(state, tuple) and len(state) == 3
    attributes, items, pairs = state if good else (None, None, None)
    parts = attributes if isinstance(attributes, tuple) else (attributes,)
    good = good and len(parts) <= 2 and all(part is None or isinstance(part, dict) for part in parts)
    names = [name for part in parts for name in part or ()] if good else []
    good = good and all(isinstance(name, str) and not name.startswith("__") for name in names)
    if isinstance(attributes, tuple):  # the second part is for slots: only such as there are
        slots = {name for kind in type(subject).__mro__ for name in _slots_of(kind)}
        good = good and len(parts) == 2 and set(parts[1] or ()) <= slots
    good = good and (attributes is None or bool(parts[0]) <= hasattr(subject, "__dict__"))
    good = good and (items is None or (isinstance(items, list) and isinstance(subject, list)))
    good = good and (pairs is None or (isinstance(pairs, list) and isinstance(subject, dict)))
    good = good and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs or ())
    if not good:
        raise FarError(
            "it tells a state that its object cannot have",
            hint="do not trust that far end: it does not keep to the rules",
        )
    return attributes, items, pairs


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


# --- exceptions ------------------------------------------------------------------------------------------------


def answer(segments: Sequence[Any], fields: dict[str, type], room: int = MAX_ANSWER_ABOUT) -> dict[str, Any]:
    """A plain answer that has the fields of the given types; FarError if the far end does not keep to the protocol."""
    try:
        found = values.loads(segments[0], room=room)
    except (data.DataError, IndexError) as error:
        found = error
    if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in fields.items()):
        raise FarError(
            "its answer is none", hint="the far end does not keep to the protocol: do not trust it"
        )
    return found


def exception(
    segments: Sequence[Any],
    trust: str,
    place: str,
    stderr: bytes,
    hint: Callable[[dict[str, Any]], str | None] = lambda about: None,
) -> BaseException:
    """The exception of a RAISED answer: its own type where the far end is trusted and the type is known here.

    hint: what to do about the exception that a description tells of, if anything is known.
    """
    about = answer(segments, {"kind": str, "message": str, "traceback": str})
    traceback = _labelled(about["traceback"], place)
    tail = stderr.decode(errors="replace")
    error: BaseException | None = None
    why: str | None = None
    if trust == "pickle" and len(segments) > 1 and segments[1]:
        know_far_main()
        try:
            error = pickle.loads(segments[1])  # noqa: S301  # trust="pickle": the caller trusts this far end
        except Exception as reason:  # its type cannot be built here: the traceback is shown instead
            why = f"{about['kind']} cannot be rebuilt here ({reason}): pass all its arguments to super().__init__()"
    if not isinstance(error, BaseException) or isinstance(error, (SystemExit, KeyboardInterrupt)):
        return FarError(
            f"{about['kind']}: {about['message']}",
            kind=about["kind"],
            traceback=traceback,
            far_stderr=tail,
            hop=place,
            hint=why or hint(about),
        )
    error.add_note(f"raised at the far end of {place}:\n{printable_lines(traceback.rstrip())}")
    advice = hint(about)
    if advice is not None:
        error.add_note(f"hint: {printable_lines(advice)}")
    if tail.strip():
        error.add_note(
            "the end of its stderr:\n"
            + "\n".join(f"  | {printable(line)}" for line in tail.rstrip().splitlines()[-8:])
        )
    return error


def _labelled(traceback: str, place: str) -> str:
    return traceback.replace('  File "', f'  File "{place}:')


def check_function(fn: object) -> None:
    """TypeError for what cannot be called: told before anything is opened or sent for it."""
    if not callable(fn):
        raise TypeError(f"not a function: {fn!r}; give the function itself, then its arguments")


def module_of(name: str) -> ModuleType:
    """Import a module by name for the command line; the current folder counts, as for `python -m`."""
    import importlib

    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def function_of(text: str) -> Callable[..., Any]:
    """`module:function` (or `module:Class.method`) → the function."""
    module, colon, path = text.partition(":")
    if not colon or not path:
        raise Unserializable(
            f"not a function: {text!r}", hint="name it as module:function, for example math:sqrt"
        )
    try:
        value: Any = module_of(module)
    except ImportError as error:
        raise Unserializable(
            f"no function {text!r}: {error}", hint="run from the folder where `python -m` finds the module"
        ) from error
    for part in path.split("."):
        names = dir(value)
        try:
            value = getattr(value, part)
        except AttributeError as error:
            near = nearest(part, [name for name in names if not name.startswith("_")])
            hint = near or "look at its spelling in the module's file"
            raise Unserializable(f"no function {text!r}: {error}", hint=hint) from error
    if not callable(value):
        raise Unserializable(f"{text!r} is no function but a {type(value).__name__}")
    return value  # type: ignore[no-any-return]
