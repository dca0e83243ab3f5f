"""Progress: plain lines now and then where nobody watches, a bar on a terminal, and nothing on standard output."""

import pytest

from service.cli.progress import LINE_EVERY_SECONDS, progress


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress(300, "orders compared", clock=clock) as steps:
        for _ in range(3):
            steps.advance(50)
        clock.now = LINE_EVERY_SECONDS
        steps.advance(50)
        steps.advance()
        clock.now = 2 * LINE_EVERY_SECONDS
        steps.advance(9)
    assert steps.done == 210
    assert capsys.readouterr() == ("", "orders compared: 200 of 300\norders compared: 210 of 300\n")


def test_without_a_total_only_what_is_done_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress(None, "orders listed", clock=clock) as steps:
        clock.now = LINE_EVERY_SECONDS
        steps.advance(7)
    assert capsys.readouterr().err == "orders listed: 7\n"


def test_a_bar_on_a_terminal_and_nothing_in_the_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress(3, "orders compared") as steps:
        steps.advance(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "orders compared" in err
