"""Draws on a terminal: messages that wrap between words, one live line below them, and a closing panel.

What it imports of rich takes some 30 ms; a run into a pipe or a file never comes here.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.text import Text

Words = Sequence[str]  # of a command, quoted for the shell
Spans = Sequence[tuple[str, str]]  # pieces of a line, each with its style in rich's words, "" for none

_LEAST_BAR, _MOST_BAR = 8, 40  # columns
_INDENT = "  "


def is_screen(file: TextIO) -> bool:
    """Return whether a file is a terminal that can move its cursor."""
    return file.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


@dataclass(frozen=True)
class LiveLine:
    """Work in progress: what it is, how much is done of how much (0 for unknown), and figures.

    `forms` are the figures in several lengths, the longest first: the first that fits the screen is drawn, and a bar
    takes the room that is left.
    """

    label: str
    done: int
    total: int
    forms: Sequence[Spans]


class Screen:
    """A terminal that can move its cursor.

    The cursor stays visible and no thread draws, so that a killed run leaves the terminal as it was.
    """

    def __init__(self, file: TextIO) -> None:
        """Draw on such a terminal; rich finds out its width and whether it has colours."""
        from rich.console import Console

        self._console = Console(
            file=file, force_terminal=True, force_jupyter=False, markup=False, emoji=False, highlight=False
        )
        self._live: LiveLine | None = None

    @property
    def width(self) -> int:
        """Return the columns of the screen as it is now."""
        return self._console.width

    def message(self, *spans: tuple[str, str]) -> None:
        """Print pieces of a line that wraps between words; hide the live line before."""
        text = _text(spans)
        if text.cell_len > self.width:
            text = text[len(text.plain) - len(text.plain.lstrip()) :]  # a column to the right has no room
        for line in text.divide(_breaks(text.plain, self.width)):
            line.rstrip()
            self._piece(line)

    def show(self, line: LiveLine) -> None:
        """Draw the live line in the place of the last one."""
        with self._console:
            self.hide()
            self._live = line
            self.draw()

    def hide(self) -> None:
        """Erase the live line until `draw`."""
        from rich.control import Control
        from rich.segment import ControlType

        if self._live:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def draw(self) -> None:
        """Draw the live line, if there is one."""
        if self._live:
            with self._console:
                self._draw(self._live)

    def drop(self) -> None:
        """Erase the live line for good."""
        self.hide()
        self._live = None

    def keep(self) -> None:
        """Leave the live line as it is, and go on below it."""
        if self._live:
            self._live = None
            self._console.line()

    def panel(self, heading: str, rows: Mapping[str, Sequence[Words]]) -> None:
        """Draw a heading and items under their labels between two rules: without sides, so that commands can be copied.

        An item is the words of a command or a path; a command that is too long goes on in further lines.
        """
        from rich.rule import Rule

        self._console.print(Rule(style="bright_black"))
        self.message((heading, "bold"))
        column = max(map(len, rows)) + len(_INDENT)
        for label, items in rows.items():
            first = label.ljust(column)
            if any(column + _width((" ".join(words), "")) > self.width for words in items):
                self.message((label, "bold"))
                first = _INDENT
            for words in items:
                for line in _continued(words, self.width - len(first)):
                    self._piece(_text([(first, "bold"), (line, "cyan" if len(words) > 1 else "")]))
                    first = " " * len(first)
        self._console.print(Rule(style="bright_black"))

    def _draw(self, line: LiveLine) -> None:
        from rich.control import Control
        from rich.progress_bar import ProgressBar
        from rich.segment import ControlType

        width = self.width - 1  # some terminals wrap as soon as the last column is written
        head = (f"{line.label} ", "bold")
        texts = [_text([head, *form]) for form in line.forms]
        number = next((number for number, text in enumerate(texts) if text.cell_len <= width), -1)
        room = min(width - texts[number].cell_len - 1, _MOST_BAR)
        if not line.total or room < _LEAST_BAR:
            texts[number].truncate(width, overflow="ellipsis")
            self._piece(texts[number], end="")
            return
        self._piece(_text([head]), end="")
        bar = ProgressBar(
            line.total, line.done, width=room, style="bright_black", complete_style="cyan", finished_style="green"
        )
        self._console.print(bar, end="")
        # Without colours the bar ends where the work does.
        self._console.control(Control((ControlType.CURSOR_MOVE_TO_COLUMN, _width(head) + room + 1)))
        self._piece(_text(line.forms[number]), end="")

    def _piece(self, text: "Text", end: str = "\n") -> None:
        """Print a text; the terminal wraps one that is too long, so that it is copied without a break."""
        self._console.print(text, end=end, no_wrap=True, overflow="ignore", crop=False)


def _breaks(text: str, width: int) -> list[int]:
    """Return where the lines of a text begin but for the first, so that none but a single word is wider than that."""
    from rich.cells import cell_len

    breaks, start = [], 0
    for word in re.finditer(r"\S+", text):
        if cell_len(text[start : word.end()]) > width and text[start : word.start()].strip():
            start = word.start()
            breaks.append(start)
    return breaks


def _continued(words: Words, width: int) -> list[str]:
    """Return the lines of a command, which a POSIX shell joins again; elsewhere there is one."""
    lines = [words[0]]
    for word in words[1:]:
        if os.name == "posix" and len(lines[-1]) + len(word) + len("  \\") > width:
            lines[-1] += " \\"
            lines.append(_INDENT + word)
        else:
            lines[-1] += f" {word}"
    return lines


def _text(spans: Spans) -> "Text":
    from rich.text import Text

    return Text.assemble(*spans)


def _width(*spans: tuple[str, str]) -> int:
    """Return the columns that pieces of a line take, two for each wide character."""
    return _text(spans).cell_len
