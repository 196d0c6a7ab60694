"""Where settings come from: a TOML file, and variables of the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Reader:
    """How one field is read.

    Attributes:
        kind: what its value has to be, in words.
        from_toml: a value of a file; raises ``ValueError`` where it does not fit.
        from_text: a variable's text; raises ``ValueError`` where it does not fit.
        is_path: whether a relative path in a file counts from that file's folder.
        hidden: whether its value is kept out of messages.
    """

    kind: str
    from_toml: Callable[[object], Any]
    from_text: Callable[[str], Any]
    is_path: bool = False
    hidden: bool = False


def parse_file(file: Path | None) -> dict[str, Any]:
    """The content of a TOML file; nothing where there is none.

    Raises:
        ConfigError: it can't be read.
    """
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings {file} can't be read ({error.strerror}); check the path."
        ) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"The settings {file} are not valid TOML ({error}).") from error


def from_table(
    table: Mapping[str, Any], file: Path | None, readers: Mapping[str, Reader]
) -> dict[str, Any]:
    """The fields that a table of a file sets.

    Args:
        table: as TOML has it.
        file: where it is from.
        readers: of each field, by its name.

    Raises:
        ConfigError: a field is unknown or has an illegal value.
    """
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in readers:
            raise ConfigError(
                f"{file} sets {name!r}, which is no setting; there are: {', '.join(readers)}."
            )
        reader = readers[name]
        try:
            values[name] = reader.from_toml(value)
        except ValueError as error:
            raise ConfigError(
                f"{name} in {file} must be {reader.kind}{_but_is(reader, value)}."
            ) from error
        if reader.is_path and file is not None:
            values[name] = file.parent / values[name]
    return values


def from_environment(
    environment: Mapping[str, str], prefix: str, readers: Mapping[str, Reader]
) -> dict[str, Any]:
    """The fields that variables set.

    Args:
        environment: where they are looked up.
        prefix: of their names.
        readers: of each field, by its name.

    Raises:
        ConfigError: one has an illegal value.
    """
    values = {}
    for name, reader in readers.items():
        variable = prefix + name.upper()
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = reader.from_text(text)
        except ValueError as error:
            raise ConfigError(
                f"{variable} must be {reader.kind}{_but_is(reader, text)}."
            ) from error
    return values


def _but_is(reader: Reader, value: object) -> str:
    return "" if reader.hidden else f", not {value!r}"


def _exactly(kind: type) -> Callable[[object], Any]:
    def check(value: object) -> object:
        if type(value) is not kind:
            raise ValueError(value)
        return value

    return check


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(value)
    return tuple(value)


def _path(value: object) -> Path:
    return Path(_exactly(str)(value))


def _switch(text: str) -> bool:
    try:
        return _SWITCHES[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


_SWITCHES: Final = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

TEXT: Final = Reader("a text", _exactly(str), str)
SECRET: Final = Reader("a text", _exactly(str), str, hidden=True)
PATH: Final = Reader("a text", _path, Path, is_path=True)
WHOLE: Final = Reader("a whole number", _exactly(int), int)
NUMBER: Final = Reader("a number", _number, float)
SWITCH: Final = Reader("true or false", _exactly(bool), _switch)
TEXTS: Final = Reader("a list of texts", _texts, lambda text: tuple(text.split()))
"""In a variable they are separated by spaces."""
