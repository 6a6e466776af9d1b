"""The commands on a real pseudo-terminal, and into pipes."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyte
import pytest
from conftest import colour_folder, command

pytest.importorskip("termios")
pytestmark = pytest.mark.slow

NUMBER, PERCENT = r"\d+\.\d{6}", r"\d+\.\d%"


class Tty:
    """A command that runs on a pseudo-terminal of some columns."""

    def __init__(self, *words, cwd, columns=80, **env):
        import fcntl
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
        script = Path(sys.executable).with_name(words[0])
        self.process = subprocess.Popen(
            [str(script), *map(str, words[1:])], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
            env={**clean_environment(), "TERM": "xterm-256color", **env}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.written, self._columns, self._more = b"", columns, threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # how Linux says that the other end is closed
                data = b""
            self.written += data
            self._more.set()
            if not data:
                return

    def wait_for(self, text):
        """Wait until the command has written a text, or has ended."""
        while text not in self.written and self._reader.is_alive():
            self._more.wait(10)
            self._more.clear()

    def lines(self, code=0):
        """Return what a person sees once the command has ended with an exit code."""
        assert self.process.wait(120) == code
        self._reader.join(10)
        os.close(self._master)
        screen = pyte.Screen(self._columns, 60)
        pyte.ByteStream(screen).feed(self.written)
        return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


def clean_environment():
    names = ("NO_COLOR", "COLUMNS", "RETRAIN_CALLED_BY")
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.fixture
def words(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos")
    return [
        "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        "--how_many_training_steps=30",
    ]  # fmt: skip


def test_a_run_into_a_pipe_is_byte_for_byte_what_scripts_parse(words, tmp_path):
    done = command(*words, cwd=tmp_path, env={"TERM": "xterm-256color"})
    steps = "".join(
        rf"Step {step}: Train accuracy = {PERCENT}\nStep {step}: Cross entropy = {NUMBER}\n"
        rf"Step {step}: Validation accuracy = {PERCENT} \(N=100\)\n"
        for step in (0, 10, 20, 29)
    )
    expected = (
        r"60 images in 3 classes in photos: \d+ training, \d+ validation, \d+ testing\.\n"
        r"Features for 60 photos: 60 computed, 0 from the cache\.\n"
        f"{steps}"
        rf"Final test accuracy = {PERCENT} \(N=\d+\), 95% interval {PERCENT} to {PERCENT}\n"
        rf"5-fold cross-validation: {PERCENT} \+- \d\.\d \(folds {PERCENT} to {PERCENT}\), N=60\n"
        r"Wrote tf_files/retrained_graph\.pb, tf_files/retrained_graph\.tflite, tf_files/retrained_labels\.txt and "
        r"tf_files/retrained_graph\.report\.html\.\n"
        r"Label a photo:  label_image --graph tf_files/retrained_graph\.pb PHOTO\.jpg\n"
        r"See the curves: tensorboard --logdir tf_files/training_summaries\n"
    )
    assert re.fullmatch(expected, done.stdout)
    progress, doubt = done.stderr.removesuffix("\n").rsplit("\n", 1)
    assert re.fullmatch(r"Bottlenecks: 60/60 \(\d+ images/s\)\nCross-validation: 5/5 \(.*\)", progress)
    assert doubt.startswith("The light of a photo alone tells magenta from the other classes")  # as its colours do


@pytest.mark.parametrize("columns", [40, 80])
def test_a_run_on_a_terminal_is_a_bar_a_line_and_a_panel(words, tmp_path, columns):
    lines = Tty(*words, cwd=tmp_path, columns=columns).lines()
    assert max(map(len, lines)) <= columns
    (bar,) = [line for line in lines if line.startswith("Bottlenecks")]
    (step,) = [line for line in lines if line.startswith("Step")]
    assert "60/60 images" in bar
    assert step.startswith("Step 30/30 ")
    first, last = (number for number, line in enumerate(lines) if line == "─" * columns)
    panel = " ".join(lines[first + 1 : last])
    assert last == len(lines) - 1
    assert panel.startswith("Final test accuracy = 100.0%")
    for word in ("tf_files/retrained_graph.pb", "Label a photo", "PHOTO.jpg", "tf_files/training_summaries"):
        assert word in panel


def test_an_interrupted_run_leaves_the_terminal_as_it_was(words, tmp_path):
    running = Tty(*words[:-1], "--how_many_training_steps=200000", cwd=tmp_path)
    running.wait_for(b"Step ")
    running.process.send_signal(signal.SIGINT)
    lines = running.lines(code=130)
    assert lines[-1].startswith("retrain: interrupted.") or "retrain: interrupted." in "".join(lines[-2:])
    assert [line for line in lines if line.startswith("Step ")]
    assert b"\x1b[?25l" not in running.written  # the cursor was never hidden
    assert not running.written.rstrip().endswith(b"\x1b[")


def test_a_dumb_terminal_gets_the_lines_of_a_pipe(words, tmp_path):
    command(*words, cwd=tmp_path)
    piped = command(*words, cwd=tmp_path)
    shown = Tty(*words, cwd=tmp_path, TERM="dumb")
    shown.lines()
    assert shown.written.decode().replace("\r\n", "\n") == piped.stdout + piped.stderr


def test_an_error_is_in_colours_on_a_terminal_and_plain_elsewhere(tmp_path):
    plain = command("retrain", "--image_dir=nowhere", cwd=tmp_path, code=1).stderr
    assert plain.startswith("retrain: no such image folder: nowhere")
    shown = Tty("retrain", "--image_dir=nowhere", cwd=tmp_path)
    assert " ".join(shown.lines(code=1)) == plain.strip()
    assert b"\x1b[1;31mretrain: " in shown.written
