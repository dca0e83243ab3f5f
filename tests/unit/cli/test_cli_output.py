"""Tables and documents as they leave a command: on a terminal, through a pipe, for programs."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from service.cli import output
from service.cli.output import Column

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
COLUMNS = [Column("ORDER", "id"), Column("PAID", "amount"), Column("WHAT")]


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    return terminal


@pytest.mark.parametrize("width", [80, 40, 20])
def test_ids_are_never_cut_however_narrow_the_terminal_is(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = on_terminal(monkeypatch, width)
    output.print_table(COLUMNS, [(ORDER, "1425.00 ARS", "a refund of 1500.00 is more than the 1425.00 that were paid")])
    assert ORDER in terminal.getvalue()
    assert "1425.00 ARS" in terminal.getvalue()
    assert "…" not in terminal.getvalue()


def test_a_terminal_of_80_columns_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch, 80)
    output.print_table(COLUMNS, [(ORDER, "1425.00 ARS", "word " * 60)])
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80


def test_through_a_pipe_every_row_is_one_line_and_amounts_stand_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_table(COLUMNS, [(ORDER, "1425.00 ARS", "word " * 60), ("ORD2", "5.00 ARS", None)])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["ORDER", "PAID", "WHAT"]
    assert first.startswith(f"{ORDER}  1425.00 ARS  word word")
    assert second == "ORD2                              5.00 ARS  -"


def test_a_sentence_stands_below_its_row_on_a_terminal_and_beside_it_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(ORDER, "75.00 ARS", "word " * 30), ("ORD2", "5.00 ARS", "short")]
    output.print_table(COLUMNS[:2], rows, detail="WHAT")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.endswith("WHAT")
    assert first.startswith(f"{ORDER}  75.00 ARS  word word")
    assert second.endswith("short")
    terminal = on_terminal(monkeypatch, 80)
    output.print_table(COLUMNS[:2], rows, detail="WHAT")
    lines = terminal.getvalue().splitlines()
    assert lines[0].split() == ["ORDER", "PAID"]
    assert lines[1].split() == [ORDER, "75.00", "ARS"]
    assert lines[2].startswith("  word word")
    assert lines[-1] == "  short"
    assert max(map(len, lines)) <= 80


def test_words_are_not_broken_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch, 60)
    output.print_table(COLUMNS, [(ORDER, "1.00 ARS", "processed (partially_refunded) " * 3)])
    assert "(partially_refunded)" in terminal.getvalue()


def test_nothing_to_list_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, [], empty="no orders")
    assert capsys.readouterr().out == "no orders\n"


def test_markup_and_control_characters_from_outside_are_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([Column("X")], [("[bold]a[/bold]\x1b[2J\r\n\u202eb",)])
    assert capsys.readouterr().out.splitlines()[1] == "[bold]a[/bold]\ufffd[2J\ufffd\ufffd\ufffdb"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (0, "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("47.28"), "47.28"),
        (datetime(2026, 11, 5, 9, 0, 1, 5, tzinfo=timezone(timedelta(hours=-3))), "2026-11-05 12:00:01Z"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert output.shown(value) == text


def test_amounts_name_their_currency() -> None:
    assert output.amount(Decimal("1500.00"), "ARS") == "1500.00 ARS"
    assert output.amount(Decimal("1500.00"), None) == "1500.00"
    assert output.amount(None, "ARS") == "-"


def test_json_has_decimal_strings_and_utc_times(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(
        {"amount": Decimal("47.280"), "at": datetime(2026, 11, 5, 12, tzinfo=UTC), "name": "ma\u00f1ana\x9b"}
    )
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"amount": "47.280", "at": "2026-11-05T12:00:00Z", "name": "ma\u00f1ana\x9b"}


def test_a_standard_output_that_knows_no_accents_gets_replacements(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    output.print_line("ma\u00f1ana")
    narrow.seek(0)
    assert narrow.read() == "ma?ana\n"
