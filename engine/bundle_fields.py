"""Checked reading of a bundle's JSON: each wrong field becomes one sentence that names it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from engine.errors import BundleError

Option = TypeVar("Option", bound=str)


class Fields:
    """One JSON object whose fields are read with a check of their kind.

    Args:
        values: the object.
        file: the file it stands in, for messages.
        path: where in the file it stands, with dots; empty for the whole.

    Raises:
        BundleError: ``values`` is no JSON object. Every reading method raises it too, where its
            field is missing or of another kind.
    """

    def __init__(self, values: object, file: Path, path: str = "") -> None:
        self._file = file
        self._path = path
        if not isinstance(values, dict):
            what = path or "the whole content"
            raise BundleError(f"{file} is wrong: {what} must be an object; export it again.")
        self.values: Mapping[str, Any] = values

    def text(self, name: str) -> str:
        """Return a field that is text and not empty."""
        value = self._get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "text", value)
        return value

    def choice(self, name: str, options: tuple[Option, ...]) -> Option:
        """Return a field that is one of the given words."""
        value = self._get(name)
        for option in options:
            if value == option:
                return option
        raise self._wrong(name, f"one of {', '.join(options)}", value)

    def number(self, name: str, *, above: float = -math.inf) -> float:
        """Return a field that is a number greater than ``above``."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > above:
            bound = "" if math.isinf(above) else f" above {above:g}"
            raise self._wrong(name, f"a number{bound}", value)
        return float(value)

    def integer(self, name: str, *, least: int = 0) -> int:
        """Return a field that is a whole number, at least ``least``."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._wrong(name, f"a whole number from {least}", value)
        return value

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Return a field that is a list of lengths from 1, where null is any length."""
        value = self._get(name)
        if not isinstance(value, list) or not all(
            item is None or (type(item) is int and item >= 1) for item in value
        ):
            raise self._wrong(name, "a list of whole numbers from 1 or null", value)
        return tuple(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a field that is a list of whole numbers."""
        value = self._get(name)
        if not isinstance(value, list) or any(type(item) is not int for item in value):
            raise self._wrong(name, "a list of whole numbers", value)
        return tuple(value)

    def integer_pair(self, name: str) -> tuple[int, int]:
        """Return a field that is a list of two whole numbers."""
        value = self._get(name)
        if not isinstance(value, list) or [type(item) for item in value] != [int, int]:
            raise self._wrong(name, "a list of two whole numbers", value)
        return value[0], value[1]

    def range(self, name: str) -> tuple[float, float] | None:
        """Return a field that is null or a list of two rising numbers."""
        value = self._get(name)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(type(item) in (int, float) for item in value)
            or not value[0] < value[1]
        ):
            raise self._wrong(name, "null or a list of two rising numbers", value)
        return float(value[0]), float(value[1])

    def section(self, name: str) -> Self:
        """Return a field that is an object."""
        return type(self)(self._get(name), self._file, self._name(name))

    def sections(self, name: str) -> dict[str, Self]:
        """Return a field that is an object of objects."""
        outer = self.section(name)
        return {inner: outer.section(inner) for inner in outer.values}

    def list_of_sections(self, name: str) -> list[Self]:
        """Return a field that is a list of objects."""
        value = self._get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list of objects", value)
        return [
            type(self)(item, self._file, f"{self._name(name)}[{index}]")
            for index, item in enumerate(value)
        ]

    def texts(self, name: str) -> dict[str, str]:
        """Return a field that is an object of texts."""
        inner = self.section(name)
        return {key: inner.text(key) for key in inner.values}

    def numbers(self, name: str) -> dict[str, float]:
        """Return a field that is an object of numbers."""
        inner = self.section(name)
        return {key: inner.number(key) for key in inner.values}

    def _name(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise BundleError(f"{self._file} lacks {self._name(name)}; export it again.")
        return self.values[name]

    def _wrong(self, name: str, legal: str, value: object) -> BundleError:
        return BundleError(
            f"{self._file} is wrong: {self._name(name)} must be {legal}, not {value!r};"
            " export it again."
        )
