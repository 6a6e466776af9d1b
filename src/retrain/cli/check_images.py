"""`check_images`: prints what is wrong with a folder of photos."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any

from retrain.cli import flags, places
from retrain.cli.console import DONE, FAILED, quieten, run
from retrain.cli.help_format import HelpFormatter
from retrain.config import RetrainConfig, settings_of
from retrain.doctor.findings import Finding, Kind
from retrain.errors import UsageError, did_you_mean, plural, printable

PAGE = "check_images.html"
_DEFAULT = RetrainConfig.output_graph.with_name(PAGE)
_EXIT_CODES = "The exit code is 0 whatever is found, 1 for an error or what --fail_on names, 2 for wrong usage.\n\n"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong with the photos of a folder and return the exit code."""
    args = vars(flags.parse(check_images_parser(), arguments))
    image_dir = places.image_dir(args.pop("folder"), args["image_dir"], "check_images")
    if image_dir is None:
        raise UsageError(
            "the folder is missing. Give one that holds one sub-folder of photos per class: check_images my_photos"
        )
    config = RetrainConfig(**{**{field.name: args[field.name] for field in _settings()}, "image_dir": image_dir})
    quieten(verbose=args["verbose"])
    level = logging.DEBUG if args["verbose"] else logging.INFO
    findings = look(config, args["page"], "--page", level, as_json=args["json"])
    return _exit_code(findings, args["fail_on"])


command = partial(run, "check_images", main)


def check_images_parser() -> argparse.ArgumentParser:
    """Return the parser of `check_images`."""
    parser = flags.Parser(
        prog="check_images",
        description="Says what is wrong with the photos of a folder, one sub-folder for each class, worst first.",
        epilog=_EXIT_CODES + flags.architectures_help(),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("folder", nargs="*", help="folder of photos, one sub-folder for each class; as --image_dir")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all findings")
    text = f"exit with 1 if something of these kinds is found: {', '.join(sorted(Kind))}"
    parser.add_argument("--fail_on", type=_kinds, default=(), help=text, metavar="KIND[,KIND...]")
    text = "the findings as a page; as JSON and as marks, they lie beside it (default: %(default)s)"
    parser.add_argument("--page", type=_page, default=_DEFAULT, help=text, metavar="FILE.html")
    for field in _settings():
        default = None if field.name == "image_dir" else field.default
        flags.add_setting(parser, field, default, varied=False)
    flags.add_common(parser)
    return parser


def look(config: RetrainConfig, page: Path, flag: str, level: int, *, as_json: bool = False) -> Sequence[Finding]:
    """Look at photos, print what was found, and return it.

    Args:
        config: The settings of a training.
        page: Where the findings go.
        flag: The flag that decides that.
        level: The lowest level of `logging` that is printed.
        as_json: Print one object, instead of sentences.

    Raises:
        RetrainError: The user can fix it.
    """
    from retrain import checking
    from retrain.doctor import writing
    from retrain.terminal import Terminal

    written = checking.Written(page)
    with Terminal(results=False, level=level) as terminal:
        examination = checking.check(config, written, flag, terminal)
    if as_json:
        print(writing.as_json(examination).decode(), end="")
    else:
        print("\n".join(printable(finding.sentence) for finding in examination.findings) or "nothing found")
    if level <= logging.INFO:
        marks = len(writing.marks_of(examination.findings))
        proposed = f", with proposals for {plural(marks, 'photo')} in {written.marks}" if marks else ""
        print(printable(f"check_images: wrote {page}{proposed}"), file=sys.stderr)
    return examination.findings


def _exit_code(findings: Sequence[Finding], fail_on: Sequence[Kind]) -> int:
    """Return 1, and say why, where there are findings of some kinds, else 0."""
    found = Counter(finding.kind for finding in findings)
    named = [f"{kind} ({found[kind]})" for kind in fail_on if found[kind]]
    if named:
        print(f"check_images: failed, because --fail_on names what was found: {', '.join(named)}", file=sys.stderr)
    return FAILED if named else DONE


def _settings() -> Iterator["Field[Any]"]:
    """Yield the settings of a training that decide what its photos are, and their features."""
    yield from settings_of("photos", "backbone")
    yield from (field for field in fields(RetrainConfig) if field.name == "random_seed")


def _kinds(word: str) -> tuple[Kind, ...]:
    """Return the kinds of findings in a flag's value, with commas between."""
    names = [name.strip() for name in word.split(",") if name.strip()]
    for name in names or [word]:
        if name not in list(Kind):
            known = f"kinds are {', '.join(sorted(Kind))}"
            raise argparse.ArgumentTypeError(
                f"{name!r} is no kind of finding; {known}.{did_you_mean(name, Kind)}".rstrip(".")
            )
    return tuple(dict.fromkeys(map(Kind, names)))


def _page(word: str) -> Path:
    """Return the path of a page."""
    path = places.local(word)
    if path.suffix.lower() not in (".html", ".htm"):
        raise argparse.ArgumentTypeError(f"{word!r} is no name of a page; give one that ends in .html")
    return path
