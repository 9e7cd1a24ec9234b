"""How settings are read into frozen dataclasses: by field name and type, refusing what does not fit."""

import dataclasses
import difflib
import json
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from device_agent.errors import SettingsError

Tables = dict[str, Any]
"""Settings as TOML has them: values, and tables of values."""
T = TypeVar("T")


def at_least(least: float) -> Mapping[str, float]:
    """Return a field's metadata: the least value of a number."""
    return MappingProxyType({"least": least})


def read_file(path: Path) -> Tables:
    """Return a TOML file's content; SettingsError when it cannot be read."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError("--config", str(path), f"cannot be read: {error}") from error


def read_environment(tables: Tables, schema: type, environment: Mapping[str, str], prefix: str) -> None:
    """Put the environment's values into the tables; a name with our prefix that is no setting is refused."""
    known = {prefix + ".".join(path).replace(".", "_").upper(): path for path in _paths(schema)}
    for name, text in environment.items():
        if name.startswith(prefix):
            if name not in known:
                raise SettingsError(name, text, _did_you_mean(name, known))
            _put(tables, known[name], _from_text(schema, known[name], text))


def read_pairs(tables: Tables, schema: type, pairs: tuple[str, ...]) -> None:
    """Put `table.field=value` pairs into the tables."""
    known = {".".join(path): path for path in _paths(schema)}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise SettingsError("--set", pair, _did_you_mean(name, known))
        _put(tables, known[name], _from_text(schema, known[name], text))


def read_table(schema: type[T], table: Any, where: str = "") -> T:
    """Return the dataclass with the table's values, every one checked against its field's type and bound."""
    if not isinstance(table, dict):
        raise SettingsError(where, table, "make it a table")
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(schema)
    for name in table:
        if name not in fields:
            raise SettingsError(f"{where}{name}", table[name], _did_you_mean(name, fields))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise SettingsError(f"{where}{name}", None, "it has no default; set it")
    values = {name: _value(hints[name], fields[name], value, f"{where}{name}") for name, value in table.items()}
    return schema(**values)


def _value(kind: Any, field: "dataclasses.Field[Any]", value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return read_table(typing.cast("type[Any]", kind), value, f"{where}.")
    fits, expected, convert = _KINDS[kind]
    if not fits(value):
        raise SettingsError(where, value, f"make it {expected}")
    least = field.metadata.get("least")
    if least is not None and value < least:
        raise SettingsError(where, value, f"make it at least {least:g}")
    return convert(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_text_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_KINDS: dict[Any, tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = {
    str: (lambda value: isinstance(value, str), "a text", str),
    bool: (lambda value: isinstance(value, bool), "true or false", bool),
    Path: (lambda value: isinstance(value, str) and bool(value), "a path", Path),
    float: (_is_number, "a number", float),
    int: (lambda value: _is_number(value) and isinstance(value, int), "a whole number", int),
    tuple[str, ...]: (_are_texts, "a list of texts", tuple),
    Mapping[str, str]: (_is_text_table, "a table of texts", dict),
}


def _paths(schema: type, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    hints = typing.get_type_hints(schema)
    paths: list[tuple[str, ...]] = []
    for name, kind in hints.items():
        paths += _paths(kind, (*above, name)) if dataclasses.is_dataclass(kind) else [(*above, name)]  # type: ignore[arg-type]
    return paths


def _from_text(schema: type, path: tuple[str, ...], text: str) -> Any:
    kind: Any = schema
    for name in path:
        kind = typing.get_type_hints(kind)[name]
    if kind in (str, Path):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # the check of the field's type says what is expected


def _put(tables: Tables, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tables = tables.setdefault(name, {})
    tables[path[-1]] = value


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"there is no such setting; did you mean {close[0]}?" if close else "there is no such setting"
