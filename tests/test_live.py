"""Live progress: where it is drawn, how often, and what it leaves behind."""

import io
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbannot import displays
from nbannot.displays import live
from nbannot.engine.job import Progress


class Drawn:
    def __init__(self):
        self.states, self.ended = [], 0

    def draw(self, fragment):
        self.states.append(fragment.text.strip())

    def end(self):
        self.ended += 1


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_it_draws_what_changed_at_most_ten_times_a_second(clock):
    place = Drawn()
    show, progress = live.Live("demo", place), Progress(started=100.0, total=1_000)
    for step in range(200):  # two seconds of ticks every 10 ms
        clock.now = 100 + step / 100
        progress.done = step
        show(progress)
    assert 15 <= len(place.states) <= 20


def test_it_draws_again_only_once_a_second_when_nothing_changes(clock):
    place = Drawn()
    show, progress = live.Live("demo", place), Progress(started=100.0, total=10, done=3)
    for step in range(31):
        clock.now = 100 + step / 10
        show(progress)
    assert len(place.states) == 4


def test_what_is_left_behind_is_the_last_state(clock):
    place = Drawn()
    show, progress = live.Live("demo", place), Progress(started=100.0, total=10)
    show(progress)
    clock.now += 0.01
    progress.done, progress.calls = 10, 10
    show(progress)
    show.close()
    assert place.states[-1] == "demo · 10 answers in 10 ms"
    assert place.ended == 1


def test_work_that_ended_early_says_so_and_guesses_no_time(clock):
    place = Drawn()
    show, progress = (
        live.Live("demo", place),
        Progress(total=10, done=4, calls=4, started=100.0, asking_since=100.0),
    )
    clock.now += 2
    show(progress)
    assert "about 3.0 s left" in place.states[-1]
    show.close()
    assert place.states[-1] == "demo · 4 of 10 answers (40%) · 2.0 s · stopped"
    assert (progress.calls, progress.message) == (4, "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_in_a_terminal_it_is_one_line_on_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    with live.progress("demo " + "x" * 100) as tick:
        tick(Progress(total=2, done=1))
    written = sys.stderr.getvalue()
    assert written.startswith("\rdemo xxx")
    assert written.endswith("\n")
    assert max(map(len, written.replace("\n", "").split("\r"))) <= 59


def test_a_shorter_line_covers_the_longer_one(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    place = live.TerminalPlace()
    place.draw(displays.progress(Progress(total=100_000, done=100), "demo"))
    place.draw(displays.progress(Progress(total=1, done=1), "demo"))
    _, long, short = sys.stderr.getvalue().split("\r")
    assert len(short) == len(long)
    assert len(short.rstrip()) < len(long)


def test_nothing_is_drawn_where_nobody_looks(capsys):
    with live.progress("demo") as tick:
        tick(Progress(total=2, done=1))
    assert capsys.readouterr() == ("", "")


def test_quiet_draws_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with live.progress("demo", quiet=True) as tick:
        tick(Progress(total=2, done=1))
    assert sys.stderr.getvalue() == ""


def test_in_a_notebook_it_is_one_display_updated_in_place(monkeypatch):
    shell = InteractiveShell.instance()
    try:
        shell.kernel = object()
        with capture_output() as caught, live.progress("demo") as tick:
            tick(Progress(total=2, done=1))
            tick(Progress(total=2, done=2))
        first, *updates = caught.outputs
        assert updates
        for output in caught.outputs:
            assert set(output.data) == {"text/plain", "text/html"}
            assert "<script" not in output.data["text/html"]
        assert "<progress" in first.data["text/html"]
        assert "2 answers" in updates[-1].data["text/plain"]
        assert {output.transient["display_id"] for output in updates} == {first.transient["display_id"]}
        assert all(output.update for output in updates)
    finally:
        InteractiveShell.clear_instance()


def test_a_line_is_said_on_stderr_outside_notebooks(capsys):
    live.say("Fetching.")
    assert capsys.readouterr() == ("", "Fetching.\n")
