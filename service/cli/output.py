"""What commands print: tables for people, one JSON document for programs, progress on a terminal.

Texts from outside are shown without control characters, so that no order's reference can move a cursor. On a terminal
tables keep to its width by wrapping, and ids are never cut; elsewhere every row is one line.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import wrap
from typing import Annotated, Literal, TextIO

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Format = Literal["table", "json"]
FormatOption = Annotated[Format, typer.Option("--format", help="table for people, json for programs.")]

ABSENT = "-"
_WIDEST = 10_000
_LONGEST_UNBROKEN_WORD = 20
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "critical": "bold red", "high": "red"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `kind` `id` is never broken over lines, `amount` stands to the right, `text` may wrap."""

    title: str
    kind: Literal["id", "amount", "text"] = "text"


def shown(value: object) -> str:
    """A cell or a word in a line: times in UTC to the second, amounts with every digit, nothing that is no letter."""
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Decimal):
        return format(value, "f")
    return printable(str(value))


def printable(text: str) -> str:
    """The text with a replacement sign for each control character."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def amount(value: Decimal | None, currency: str | None) -> str:
    """`1500.00 ARS`; the currency is named wherever it is known."""
    if value is None:
        return ABSENT
    return f"{shown(value)} {shown(currency)}" if currency else shown(value)


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, for JSON."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str = "none", detail: str | None = None
) -> None:
    """A table on standard output, or the line `empty` when there are no rows.

    With `detail` each row has one cell more, a sentence: on a terminal it stands below its row, elsewhere it is a last
    column of that title. All columns are then kept whole.
    """
    cells = [[shown(value) for value in row] for row in rows]
    if not cells:
        print_line(empty)
        return
    console = _console(sys.stdout)
    below = detail is not None and sys.stdout.isatty()
    if detail is not None and not below:
        columns = [*columns, Column(detail)]
    sentences = [row.pop() for row in cells] if below else []
    table = _table(columns, cells, whole=below)
    # A terminal that is too narrow for the ids wraps the lines itself: better than half an id.
    width = max(console.width, Measurement.get(console, console.options, table).minimum)
    with console.capture() as captured:
        console.print(table, width=width, crop=False)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    if below:
        pairs = zip(lines[1:], sentences, strict=True)
        indented = (
            [line, *wrap(text, max(20, console.width - 2), initial_indent="  ", subsequent_indent="  ")]
            for line, text in pairs
        )
        lines = [lines[0], *(line for block in indented for line in block)]
    _write("\n".join(lines) + "\n")


def _table(columns: Sequence[Column], cells: Sequence[Sequence[str]], *, whole: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for index, column in enumerate(columns):
        texts = [column.title, *(row[index] for row in cells)]
        kept = whole or column.kind != "text"
        longest_word = max(len(word) for text in texts for word in text.split() or [""])
        table.add_column(
            column.title,
            justify="right" if column.kind == "amount" else "left",
            no_wrap=kept,
            overflow="fold",
            min_width=max(map(len, texts)) if kept else min(longest_word, _LONGEST_UNBROKEN_WORD),
        )
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values below each other."""
    pairs = [(name, shown(value)) for name, value in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_line(f"{name:<{width}}  {value}")


def print_title(text: str) -> None:
    """A heading above what belongs together."""
    print_line(f"\n{printable(text)}")


def print_line(text: str) -> None:
    """One line on standard output, at once: others may be following."""
    _write(text + "\n")


def print_json(document: object) -> None:
    """One JSON document: times RFC 3339 UTC, amounts decimal strings, letters outside ASCII escaped."""
    _write(json.dumps(document, indent=2, default=_plain) + "\n")


def print_json_text(text: str) -> None:
    """One JSON document that is text already."""
    _write(text + "\n")


def note(text: str) -> None:
    """One line for people on standard error: not part of the result."""
    print(printable(text), file=sys.stderr, flush=True)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else _WIDEST
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _write(text: str) -> None:
    """Writes; a reader that left (`| head`) is told nothing more, and the command goes on to its exit code."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
