"""Wraps the texts of `--help` between words, with the columns of tables in them kept."""

import argparse
import re
import textwrap


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions and wraps those that are wider than the terminal, each below its last column."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_wrapped(indent + line, width) for line in text.splitlines())


def _wrapped(line: str, width: int) -> str:
    """Return a line in lines of that width; they go on below what follows the last gap of two spaces."""
    if len(line) <= width:
        return line
    gaps = [match.end() for match in re.finditer(r"^ +|(?<=\S) {2,}", line)]
    column = max((gap for gap in gaps if gap <= width // 2), default=0)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
