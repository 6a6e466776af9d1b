import io

from builders import terminal

from retrain.terminal import Terminal


def test_progress_without_a_terminal_is_plain_lines_that_end_at_the_total():
    shown, _, err = terminal()
    advance = shown.progress("Bottlenecks", "image")
    for done in range(1, 101):
        advance(done, 100)
    assert err.getvalue().count("\n") == 1
    assert "Bottlenecks: 100/100" in err.getvalue()
    assert "\r" not in err.getvalue()


def test_progress_of_nothing_yet_is_no_division_by_it():
    shown, _, err = terminal()
    shown.progress("Downloading", "B")(0, 0)
    assert err.getvalue() == "Downloading: 0\n"


def test_a_terminal_gets_a_bar_once_there_is_something_to_do():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    err = Screen()
    advance = Terminal(out=io.StringIO(), err=err).progress("Bottlenecks", "image")
    assert err.getvalue() == ""
    for done in (10, 40):
        advance(done, 40)
    last = err.getvalue().rstrip("\n").split("\r")[-1]
    assert "Bottlenecks: 100%" in last
    assert "40/40" in last
    assert "image/s" in last


def test_quiet_says_nothing():
    out, err = io.StringIO(), io.StringIO()
    shown = Terminal(out=out, err=err, quiet=True)
    shown.say("x")
    shown.warn("x")
    shown.progress("x", "image")(1, 1)
    assert out.getvalue() + err.getvalue() == ""
