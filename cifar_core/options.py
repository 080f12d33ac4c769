"""Dataclasses as the only schema: command line, YAML and Python all build, check and write the same objects.

A field made with `option(...)` carries its help text and bounds. From that one declaration come the flag
(`max_lr` is `--max-lr`), the YAML key, the range check and the error line.
"""

import argparse
import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from cifar_core.errors import UserError


class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Schema = TypeVar("Schema", bound=DataclassInstance)


def option(
    default: Any, help: str, *, at_least: float | None = None, above: float | None = None, at_most: float | None = None
) -> Any:
    """A dataclass field that is also a flag and a YAML key. `None` always passes the bounds."""
    bounds = {"at_least": at_least, "above": above, "at_most": at_most}
    return dataclasses.field(default=default, metadata={"help": help, "bounds": bounds})


def check_bounds(config: DataclassInstance) -> None:
    """Raise `UserError` for the first field outside its `option`'s bounds, not finite, or upside down."""
    for field in _fields(config):
        value = getattr(config, field.name)
        if isinstance(value, tuple) and value[0] >= value[1]:
            low, high = map(_shown, value)
            raise UserError(f"{field.name} is {low} to {high}; the first number must be the smaller one")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(field, number)


def _check_number(field: dataclasses.Field[Any], number: float) -> None:
    bounds = field.metadata["bounds"]
    valid = (
        abs(number) < math.inf
        and (bounds["at_least"] is None or number >= bounds["at_least"])
        and (bounds["above"] is None or number > bounds["above"])
        and (bounds["at_most"] is None or number <= bounds["at_most"])
    )
    if not valid:
        words = [f"{word.replace('_', ' ')} {_shown(bound)}" for word, bound in bounds.items() if bound is not None]
        raise UserError(f"{field.name} is {_shown(number)}; it must be {' and '.join(words) or 'finite'}")


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and which names the nearest flag for an unknown one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the message as a `UserError`."""
        raise UserError(message.removeprefix("argument "))

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Like `parse_args`, but an unknown flag is answered with the nearest known one."""
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown argument {unknown[0]}{nearest(unknown[0], flags)}; see --help")
        return known


def add_options(
    parser: argparse.ArgumentParser, schema: type[DataclassInstance], skip: Iterable[str] = (), prefix: str = ""
) -> None:
    """Give the parser one flag per field, `prefix` before its name. Flags not given leave no attribute behind."""
    group = parser.add_argument_group(schema.__name__, (schema.__doc__ or "").split("\n")[0])
    hints = get_type_hints(schema)
    for field in _fields(schema):
        if field.name in skip:
            continue
        kind = _strip_optional(hints[field.name])
        keywords: dict[str, Any] = {
            "dest": prefix + field.name,
            "default": argparse.SUPPRESS,
            "help": f"{field.metadata['help']} (default: {_shown_default(field.default)})".replace("%", "%%"),
        }
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is tuple:
            keywords |= {"nargs": 2, "metavar": ("LOW", "HIGH")}
        elif get_origin(kind) is Literal:
            keywords["metavar"] = "|".join(get_args(kind))
        else:
            keywords["metavar"] = kind.__name__.upper().replace("PATH", "DIR")
        group.add_argument("--" + (prefix + field.name).replace("_", "-"), **keywords)


def from_mapping(schema: type[Schema], values: Mapping[str, Any], source: str) -> Schema:
    """Build a dataclass from YAML or parsed flags.

    Raises:
        UserError: an unknown key (named with the nearest known one), a wrong type, or a value out of bounds.
    """
    hints = get_type_hints(schema)
    names = option_names(schema)
    for key in values:
        if key not in names:
            raise UserError(f"{source}: unknown key {key}{nearest(str(key), names)}")
    try:
        return schema(**{key: _convert(key, value, hints[key]) for key, value in values.items()})
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def to_mapping(config: DataclassInstance) -> dict[str, Any]:
    """A dataclass as plain YAML types; `from_mapping` of it gives an equal object."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {field.name: plain(getattr(config, field.name)) for field in _fields(config)}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises `UserError` where the file is missing, broken or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date such as 2026-99-99
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(content).__name__}")
    return content


def option_names(schema: type[DataclassInstance]) -> list[str]:
    """The names of a dataclass's options."""
    return [field.name for field in _fields(schema)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`'; did you mean X?'` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name.split("=")[0], list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _fields(schema: DataclassInstance | type[DataclassInstance]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(schema) if "help" in field.metadata]


def _strip_optional(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _shown_default(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _convert(name: str, value: Any, kind: Any) -> Any:
    """One value to the field's type. Text converts to numbers (YAML reads 1e-3 as text), never silently."""
    inner = _strip_optional(kind)
    if value is None and inner is not kind:
        return None
    if get_origin(inner) is Literal:
        if value not in get_args(inner):
            raise UserError(f"{name} is {value}; it must be one of {', '.join(get_args(inner))}")
        return value
    if get_origin(inner) is tuple:
        return _convert_pair(name, value, get_args(inner)[0])
    return _convert_scalar(name, value, inner)


def _convert_pair(name: str, value: Any, kind: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UserError(f"{name} is {value}; it must be two numbers, low and high")
    return _convert_scalar(name, value[0], kind), _convert_scalar(name, value[1], kind)


def _convert_scalar(name: str, value: Any, kind: Any) -> Any:
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise UserError(f"{name} is {value}; it must be {'true or false' if kind is bool else kind.__name__}")
        return value
    try:
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        wanted = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise UserError(f"{name} is {value!r}; it must be {wanted}") from None
