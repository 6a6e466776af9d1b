import io
import logging
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyte
import pytest
from builders import terminal

from retrain.closing import Closing, installed
from retrain.history import Evaluation
from retrain.terminal import Terminal

ROWS = [Evaluation(step, 0.5, 1.25, 0.4 + step / 1000, 1.5, 100) for step in range(0, 500, 10)]
ROWS.append(Evaluation(499, 0.9, 0.3787, 0.674, 1.0, 100))
CLOSING = Closing(
    "Final test accuracy = 65.1% (N=109), 95% interval 55.8% to 73.4%",
    ["=== MISCLASSIFIED TEST IMAGES ==="],
    [Path("tf_files/retrained_graph.pb"), Path("tf_files/retrained_labels.txt")],
    Path("tf_files/retrained_graph.report.html"),
    Path("tf_files/retrained_graph.pb"),
    Path("tf_files/training_summaries"),
)


class Tty(io.StringIO):
    """A file that is a terminal, and remembers all that was written to it."""

    def isatty(self):
        return True

    def lines(self, columns=80):
        """Return the lines that a person sees, without the empty ones below."""
        screen = pyte.Screen(columns, 60)
        screen.set_mode(pyte.modes.LNM)
        pyte.Stream(screen).feed(self.getvalue())
        return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


@pytest.fixture
def tty(monkeypatch):
    """Return a function that makes a terminal of some columns, as results and warnings share it."""
    for name in ("NO_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def made(columns=80, **options):
        monkeypatch.setenv("COLUMNS", str(columns))
        file = Tty()
        return Terminal(out=file, err=file, **options), file

    return made


def run(shown):
    """Print a whole run."""
    shown.say("1100 images in 5 classes in flowers: 886 training, 105 validation, 109 testing.")
    with shown.training(500) as show:
        for row in ROWS:
            show(row)
    with shown.closing(CLOSING):
        shown.warn("Of an earlier training: tf_files/retrained_graph.keras.")


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


def test_a_pipe_gets_the_lines_that_scripts_parse():
    shown, out, err = terminal()
    run(shown)
    steps = [line for row in ROWS for line in row.lines()]
    assert out.getvalue().splitlines() == [
        "1100 images in 5 classes in flowers: 886 training, 105 validation, 109 testing.",
        *steps,
        "Final test accuracy = 65.1% (N=109), 95% interval 55.8% to 73.4%",
        "=== MISCLASSIFIED TEST IMAGES ===",
        "Wrote tf_files/retrained_graph.pb, tf_files/retrained_labels.txt and tf_files/retrained_graph.report.html.",
        "Label a photo:  label_image --graph tf_files/retrained_graph.pb PHOTO.jpg",
        "See the curves: tensorboard --logdir tf_files/training_summaries",
    ]
    assert err.getvalue() == "Of an earlier training: tf_files/retrained_graph.keras.\n"


def test_a_terminal_that_cannot_move_its_cursor_is_treated_as_a_pipe(tty, monkeypatch):
    plain, out, err = terminal()
    shown, file = tty()
    monkeypatch.setenv("TERM", "dumb")
    run(plain)
    run(shown)
    shown.progress("Bottlenecks", "image")(40, 40)
    text = file.getvalue()
    assert text.startswith(out.getvalue() + err.getvalue())
    assert not set("\x1b\r") & set(text)


def test_a_run_into_a_pipe_does_not_wait_for_rich():
    code = (
        "import sys; from test_terminal import *; shown = Terminal(); run(shown); shown.progress('x', 'image')(1, 1)\n"
    )
    code += "assert 'rich' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)


def test_a_terminal_gets_a_bar_once_there_is_something_to_do(tty):
    shown, file = tty()
    advance = shown.progress("Bottlenecks", "image")
    assert file.getvalue() == ""
    for done in (10, 40):
        advance(done, 40)
    (line,) = file.lines()
    assert line.startswith("Bottlenecks ━━━━━")
    assert "40/40 images" in line
    assert line.endswith(" images/s")


def test_a_training_is_one_line_on_a_terminal(tty):
    shown, file = tty()
    with shown.training(500) as show:
        for row in ROWS:
            show(row)
    (line,) = file.lines()
    assert line.startswith("Step 500/500 ━━")
    assert line.endswith("accuracy 90.0%  cross entropy 0.3787  validation 67.4%")


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 200])
def test_the_live_line_fits_every_terminal(tty, columns):
    shown, file = tty(columns)
    with shown.training(500) as show:
        show(ROWS[-1])
    (line,) = file.lines(columns)
    assert line.startswith("Step 500/500 ")
    if columns >= 40:
        assert line.endswith("67.4%")


def test_a_training_without_validation_images_shows_none(tty):
    shown, file = tty()
    with shown.training(1) as show:
        show(Evaluation(0, 0.9, 0.3787, float("nan"), float("nan"), 0))
    assert file.lines()[0].endswith("accuracy 90.0%  cross entropy 0.3787")


def test_messages_stand_above_the_live_line(tty):
    shown, file = tty()
    with shown.training(500) as show:
        show(ROWS[0])
        shown.say("Save intermediate result to : intermediate_0.pb")
        shown.warn("A batch does not fit.")
        assert [line.split()[0] for line in file.lines()] == ["Save", "A", "Step"]
    assert [line.split()[0] for line in file.lines()] == ["Save", "A", "Step"]


def test_what_takes_seconds_is_named_as_long_as_it_takes_them(tty):
    shown, file = tty()
    plain, out, err = terminal()
    with shown.waiting("Loading the network"), plain.waiting("Loading the network"):
        shown.detail("not printed")
        assert file.lines() == ["Loading the network ..."]
    assert file.lines() == []
    with shown.waiting("Loading the network"):
        shown.progress("Bottlenecks", "image")(1, 2)
    assert [line.split()[0] for line in file.lines()] == ["Loading", "Bottlenecks"]
    assert out.getvalue() + err.getvalue() == ""


def test_the_next_live_line_leaves_the_last_one_as_it_is(tty):
    shown, file = tty()
    shown.progress("Downloading", "B")(1_000_000, 2_000_000)
    shown.progress("Bottlenecks", "image")(1, 2)
    assert [line.split()[0] for line in file.lines()] == ["Downloading", "Bottlenecks"]
    assert "1.0/2.0 MB" in file.lines()[0]


def test_what_ends_a_command_is_not_on_the_live_line(tty):
    shown, file = tty()
    with shown:
        shown.progress("Downloading", "B")(1_000_000, 2_000_000)
    shown.error("retrain", "no connection.")
    assert file.lines()[1:] == ["retrain: no connection."]


@pytest.mark.parametrize("columns", [40, 80])
def test_nothing_wraps_within_a_word(tty, columns):
    shown, file = tty(columns)
    shown.say("Features for 1100 photos and 8 distorted copies of each: 1100 computed, 0 from the cache.")
    run(shown)
    assert max(map(len, file.lines(500))) <= columns
    assert file.lines(columns) == file.lines(500)
    assert "1100 images in 5 classes in flowers: 886 training," in " ".join(file.lines(columns))


def test_a_word_that_is_wider_than_the_terminal_is_copied_whole(tty):
    shown, file = tty(40)
    path = f"/{'x' * 60}/photo.jpg"
    shown.say(f"Skipped {path}: empty file")
    assert file.lines(500) == ["Skipped", f"{path}:", "empty file"]


def test_a_run_closes_with_a_panel(tty):
    shown, file = tty(160)  # the commands may be called by long paths
    run(shown)
    lines = file.lines(160)
    first, last = (number for number, line in enumerate(lines) if set(line) == {"─"})
    assert last == len(lines) - 1
    assert lines[first - 1].startswith("Of an earlier training")  # what was said meanwhile stands above
    assert lines[first + 1 : last] == [
        "Final test accuracy = 65.1% (N=109), 95% interval 55.8% to 73.4%",
        "Wrote           tf_files/retrained_graph.pb",
        "                tf_files/retrained_labels.txt",
        "                tf_files/retrained_graph.report.html",
        f"Label a photo   {installed('label_image')} --graph tf_files/retrained_graph.pb PHOTO.jpg",
        f"See the curves  {installed('retrain')} tensorboard --logdir tf_files/training_summaries",
        f"Compare runs    {installed('retrain')} runs",
    ]


def test_an_error_at_the_end_costs_no_panel(tty):
    shown, file = tty()
    with pytest.raises(ValueError, match="export"), shown.closing(CLOSING):
        raise ValueError("export")
    assert "Final test accuracy = 65.1%" in "\n".join(file.lines())


def test_after_make_the_next_command_is_a_target(tty):
    shown, out, _ = terminal(by_make=True)
    run(shown)
    assert out.getvalue().splitlines()[-2:] == [
        "Label a photo:  make label IMAGE=PHOTO.jpg",
        "See the curves: make tensorboard",
    ]
    shown, file = tty(by_make=True)
    run(shown)
    assert file.lines()[-4:-1] == [
        "Label a photo   make label IMAGE=PHOTO.jpg",
        "See the curves  make tensorboard",
        f"Compare runs    {installed('retrain')} runs",
    ]


@pytest.mark.skipif(os.name != "posix", reason="the shell is another")
@pytest.mark.parametrize("columns", [40, 80])
def test_commands_can_be_pasted_into_the_shell(tty, columns):
    graph = Path("my models/it's $HOME/graph.pb")
    closing = Closing("x", [], [graph], Path("page"), graph, Path("some/very/long/folder/of/the/training/summaries"))
    plain, out, _ = terminal()
    with plain.closing(closing):
        pass
    label = ["label_image", "--graph", str(graph), "PHOTO.jpg"]
    assert shlex.split(out.getvalue().splitlines()[-2].split(":", 1)[1]) == label
    shown, file = tty(columns)
    with shown.closing(closing):
        pass
    text = "\n".join(file.lines(500)[:-1])
    typed, curves = text.split("Compare runs")[0].split("Label a photo")[1].split("See the curves")
    assert shlex.split(typed.replace("\\\n", "")) == [*shlex.split(installed("label_image")), *label[1:]]
    assert shlex.split(curves.replace("\\\n", ""))[-2:] == ["--logdir", str(closing.summaries_dir)]


def test_a_command_that_is_not_on_the_path_is_called_by_its_path(tmp_path, monkeypatch):
    name = Path(sys.executable).name
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(installed(name)).resolve().samefile(sys.executable)
    monkeypatch.chdir(Path(sys.executable).parent)
    assert installed(name) == name or not Path(installed(name)).is_absolute()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert installed(name) == name


def colours(text):
    """Return the parameters of all escape sequences that set a colour."""
    codes = {int(code) for part in text.split("\x1b[")[1:] for code in part.split("m")[0].split(";") if code.isdigit()}
    return codes & {*range(30, 50), *range(90, 108)}


def test_colours_are_left_out_where_nobody_wants_them(tty, monkeypatch):
    shown, file = tty()
    run(shown)
    assert colours(file.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    plain, out = tty()
    run(plain)
    plain.progress("Bottlenecks", "image")(20, 40)
    assert not colours(out.getvalue())
    assert out.lines()[: len(file.lines())] == file.lines()


def test_the_verbosity_rules_terminals_too(tty):
    shown, file = tty(level=logging.WARNING)
    shown.progress("Bottlenecks", "image")(20, 40)
    run(shown)
    assert file.lines() == ["Of an earlier training: tf_files/retrained_graph.keras."]


def test_quiet_says_nothing():
    out, err = io.StringIO(), io.StringIO()
    shown = Terminal(out=out, err=err, quiet=True)
    shown.say("x")
    shown.warn("x")
    shown.progress("x", "image")(1, 1)
    run(shown)
    assert out.getvalue() + err.getvalue() == ""


TUNED = [Evaluation(-1, math.nan, math.nan, 0.5, 1.5, 100), *ROWS[1:3]]


def tune(shown, steps):
    """Show a fine-tuning of which nobody knows how fast it is: two evaluations, and what comes before."""
    with shown.fine_tuning(steps) as line:
        line.evaluation(TUNED[0])
        line.step(0, 0.0)
        for row in TUNED[1:]:
            line.step(row.step + 1, (row.step + 1) / 100)
            line.evaluation(row)


@pytest.mark.parametrize(("steps", "of"), [(100, "/100"), (0, "")])
def test_a_fine_tuning_into_a_pipe_says_accuracy_and_time_at_evaluations(steps, of):
    out, err = io.StringIO(), io.StringIO()
    tune(Terminal(out=out, err=err), steps)
    assert out.getvalue().splitlines() == [line for row in TUNED[1:] for line in row.lines()]
    lines = [re.sub(r", \d+ (s|min|h) left$", "", line) for line in err.getvalue().splitlines()]
    assert lines == [
        f"Fine-tuning: step 0{of}, validation accuracy 50.0%, best 50.0%",
        f"Fine-tuning: step 11{of}, validation accuracy 41.0%, best 50.0%",
        f"Fine-tuning: step 21{of}, validation accuracy 42.0%, best 50.0%",
    ]


def test_the_time_that_is_left_follows_from_the_progress():
    err = io.StringIO()
    with Terminal(out=io.StringIO(), err=err).fine_tuning(0) as line:
        for step in range(3):
            line.step(step, step * 1e-9)  # so little that hours are left, however slow this machine is
        line.evaluation(ROWS[0])
    assert re.search(r", \d+ h left$", err.getvalue().rstrip())


@pytest.mark.parametrize("columns", [30, 50, 120])
def test_a_fine_tuning_on_a_terminal_is_one_line_that_fits(tty, columns):
    shown, file = tty(columns)
    tune(shown, 100)
    (line,) = file.lines(columns)
    assert line.startswith("Step 21/100")
    assert "42.0%" in line
    assert ("best 50.0%" in line) == (columns >= 50)


@pytest.mark.parametrize("options", [{"quiet": True}, {"level": logging.ERROR}])
def test_a_quiet_fine_tuning_shows_nothing(options):
    out, err = io.StringIO(), io.StringIO()
    tune(Terminal(out=out, err=err, **options), 100)
    assert (out.getvalue(), err.getvalue()) == ("", "")
