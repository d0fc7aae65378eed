"""The progress bar of `wsockets connect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from wsockets.cli.meter import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr("wsockets.cli.meter.time.monotonic", lambda: now[0])
    return now


def test_it_is_drawn_ten_times_a_second_at_most(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    with Meter(visible=True) as meter:
        monkeypatch.setattr(
            meter._progress, "update", lambda _, **values: drawn.append(values)
        )
        for _ in range(30):
            clock[0] += 0.011
            meter.count(1, 2)
    # Three times on the way, for both directions, and a last time.
    told = [(each["completed"], each["total"], each["amount"]) for each in drawn]
    assert told == [
        (10, None, "10 bytes"),
        (20, None, "20 bytes"),
        (20, None, "20 bytes"),
        (40, None, "40 bytes"),
        (30, None, "30 bytes"),
        (60, None, "60 bytes"),
        (30, 30, "30 bytes"),
        (60, 60, "60 bytes"),
    ]
    assert drawn[-1]["rate"] == "181 bytes/s"


def test_nothing_is_drawn_while_it_is_invisible(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter(visible=False) as meter:
        clock[0] += 2
        meter.count(1500, 0)
        meter.count(0, 2_500_000)
    assert capsys.readouterr() == ("", "")
    assert meter.summary().plain == "sent 1.5 kB, received 2.5 MB in 2.0 s"


def test_what_is_left_of_a_disk_file_is_the_goal(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    with path.open("rb") as file:
        file.seek(400)
        meter = Meter(source=file.fileno(), visible=False)
    assert [task.total for task in meter._progress.tasks] == [600, None]


def test_a_pipe_has_no_goal() -> None:
    reading, writing = os.pipe()
    try:
        meter = Meter(source=reading, visible=False)
    finally:
        os.close(reading)
        os.close(writing)
    assert [task.total for task in meter._progress.tasks] == [None, None]


def test_a_transfer_that_failed_does_not_look_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    with path.open("rb") as file, pytest.raises(OSError, match="broken"):
        with Meter(source=file.fileno(), visible=True) as meter:
            meter.count(400, 0)
            raise OSError("broken")
    sent = meter._progress.tasks[0]
    assert (sent.completed, sent.total) == (400, 1000)
    assert sent.fields["amount"] == "400 bytes of 1.0 kB"


def test_no_time_gives_no_rate(clock: list[float]) -> None:
    with Meter(visible=True) as meter:
        meter.count(400, 0)
    assert [task.fields["rate"] for task in meter._progress.tasks] == ["", ""]
