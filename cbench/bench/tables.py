"""Aligned text tables and Markdown tables from the same columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A heading, how a line's value is found, and how it is written; None is written as "-"."""

    title: str
    value: Callable[[Any], Any]
    format: str = "{}"

    def cell(self, line: Any) -> str:
        """The text of one cell."""
        value = self.value(line)
        return "-" if value is None else self.format.format(value)


def aligned(columns: Sequence[Column], lines: Sequence[Any]) -> str:
    """A table for a terminal: the first column to the left, the others to the right."""
    table = _cells(columns, lines)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths) for row in (table[0], rule, *table[1:]))


def markdown(columns: Sequence[Column], lines: Sequence[Any]) -> str:
    """A Markdown table, aligned likewise."""
    table = _cells(columns, lines)
    rule = [":--", *["--:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table[0], rule, *table[1:]))


def _cells(columns: Sequence[Column], lines: Sequence[Any]) -> list[list[str]]:
    return [[column.title for column in columns], *([c.cell(line) for c in columns] for line in lines)]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
