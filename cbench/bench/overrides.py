"""`a.b=c` on frozen dataclasses, typed by their annotations; and dataclasses as plain JSON values."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from cbench.errors import CbenchError, ConfigError

MODULE_PREFIX = "cbench_config_"
"""Config files are imported under this name, so that they cannot hide another module."""
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}


def override(experiment: Any, text: str) -> Any:
    """A copy of a frozen dataclass with one field, at any depth, replaced.

    Args:
        experiment: a dataclass whose fields are values, dataclasses, or tuples of these.
        text: "train.lr=2e-4", "data.0.limit=4", "codecs.png.weights=none" (tuple items by number or by a
            title without a dot).

    Raises:
        ConfigError: no "=", no such field (the message suggests one), or a value of another type.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"an override looks like train.lr=2e-4, unlike {text!r}")
    return _replaced(experiment, keys, value.strip(), "")


def plain(value: Any) -> Any:
    """A dataclass tree as JSON values: tuples as lists, paths as text, functions as "module:name"."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, functools.partial):
        bound = {"function": plain(value.func), **({"arguments": plain(value.args)} if value.args else {})}
        return {**bound, **({"keywords": plain(value.keywords)} if value.keywords else {})}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _qualified(value) if callable(value) else str(value)


def suggestion(name: str, names: Iterable[str]) -> str:
    """The end of an error message: "; did you mean ..." where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _qualified(value: Any) -> str:
    module = getattr(value, "__module__", type(value).__module__)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if module.startswith(MODULE_PREFIX):
        module = module.removeprefix(MODULE_PREFIX) + ".py"
    return f"{module}:{name}"


def _replaced(node: Any, keys: list[str], text: str, trail: str) -> Any:
    key, rest = keys[0], keys[1:]
    where = f"{trail}.{key}" if trail else key
    if isinstance(node, tuple):
        at = _index(node, key, trail)
        new = _replaced(node[at], rest, text, where) if rest else _parse(text, type(node[at]), node[at], where)
        return (*node[:at], new, *node[at + 1 :])
    if not is_dataclass(node) or isinstance(node, type):
        kind = "None in this experiment" if node is None else f"a {type(node).__name__}"
        raise ConfigError(f"{trail} is {kind}, so {where} cannot be set")
    names = [field.name for field in fields(node)]
    if key not in names:
        close = suggestion(key, names) or f"; there are: {', '.join(names)}"
        raise ConfigError(f"unknown field {where!r} in {type(node).__name__}{close}")
    current = getattr(node, key)
    if rest:
        new = _replaced(current, rest, text, where)
    else:
        new = _parse(text, typing.get_type_hints(type(node))[key], current, where)
    return replace(node, **{key: new})


def _index(items: tuple, key: str, trail: str) -> int:
    """Position of a tuple's item by number or by title."""
    titles = [getattr(item, "title", "") for item in items]
    if key in titles:
        return titles.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    known = f" or {', '.join(filter(None, titles))}" if any(titles) else ""
    raise ConfigError(f"{trail} has no item {key!r}: there are 0..{len(items) - 1}{known}")


def _parse(text: str, hint: Any, current: Any, where: str) -> Any:
    """`text` as a value of type `hint`; where the annotation says nothing, of the type of `current`."""
    try:
        return _converted(text, hint, current)
    except CbenchError:
        raise
    except (ValueError, SyntaxError, ImportError, AttributeError) as error:
        kind = getattr(hint, "__name__", None) if not typing.get_origin(hint) else None
        wanted = kind or str(hint).replace("typing.", "")
        raise ConfigError(f"{where} takes {wanted}, not {text!r} ({error})") from None


def _converted(text: str, hint: Any, current: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "null") and type(None) in arguments:
            return None
        return _first(text, [a for a in arguments if a is not type(None)], current)
    if origin is typing.Literal:
        named = {str(choice): choice for choice in arguments}
        return named[text] if text in named else _refuse(f"one of {', '.join(named)}")
    if origin is tuple or hint is tuple:
        return _tuple(text, arguments)
    if hint is bool:
        return _BOOLEANS[text.lower()] if text.lower() in _BOOLEANS else _refuse("true or false")
    if hint is int:
        number = float(text.replace("_", ""))
        return int(number) if number.is_integer() else _refuse("not a whole number")
    if hint in (float, str):
        return hint(text)
    if hint is Path:
        return Path(text).expanduser()
    if origin is Callable or hint is Callable:
        module, _, name = text.partition(":")
        return getattr(importlib.import_module(module), name)
    if hint is Any and current is not None:
        return _converted(text, type(current), current)
    if is_dataclass(hint):
        return _refuse("set its fields instead")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _first(text: str, hints: list[Any], current: Any) -> Any:
    for hint in hints[:-1]:
        try:
            return _converted(text, hint, current)
        except ValueError:
            continue
    return _converted(text, hints[-1], current)


def _tuple(text: str, arguments: tuple) -> tuple:
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(parts)
    if arguments and len(arguments) != len(parts):
        _refuse(f"{len(arguments)} values")
    hints = arguments or (Any,) * len(parts)
    return tuple(_converted(part, hint, None) for part, hint in zip(parts, hints, strict=True))


def _refuse(reason: str) -> Any:
    raise ValueError(reason)
