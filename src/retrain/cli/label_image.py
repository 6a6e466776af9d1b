"""What `label_image` does and prints."""

import csv
import itertools
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrain.cli import flags
from retrain.cli.console import DONE, FAILED, quieten
from retrain.errors import UsageError, printable

if TYPE_CHECKING:
    from retrain.inference.prediction import Prediction

_COLUMNS = ("image", "rank", "label", "score", "error")


def main(arguments: Sequence[str]) -> int:
    """Print the best classes of each image and return the exit code, 1 if an image could not be read.

    Raises:
        RetrainError: Something that the user can mend.
    """
    given = flags.parse(flags.label_image_parser(), arguments)
    _check(given)
    quieten(verbose=given.verbose)
    if given.describe:
        from retrain.inference import description

        for line in description.describe_model(given.graph, labels=given.labels, overrides=flags.own_metadata(given)):
            print(printable(line))
        return DONE
    words = ([given.image] if given.image else []) + given.images
    if not words:
        raise UsageError("no image given. Name image files, folders or patterns, or - for a list on standard input.")
    from retrain.data import image_files
    from retrain.inference import loading as model_loading
    from retrain.inference import prediction

    named = image_files.expand_paths([word for word in words if word != image_files.STANDARD_INPUT])
    images: Iterable[Path] = named
    if image_files.STANDARD_INPUT in words:
        images = itertools.chain(named, image_files.read_paths(sys.stdin))
    model = model_loading.load(given.graph, labels=given.labels, overrides=flags.own_metadata(given))
    if given.verbose:
        print(f"label_image: {printable(str(given.graph))}: {model.metadata.summary()}", file=sys.stderr)
    single = images is named and named == [Path(word) for word in words]
    results = prediction.label(model, images, k=given.top_k, min_score=given.min_score)
    return _show(results, given, total=len(named) if images is named else 0, single=single and len(named) == 1)


def _check(given: Namespace) -> None:
    if given.top_k < 1:
        raise UsageError(f"--top_k is {given.top_k}; it must be at least 1.")
    if not 0 <= given.min_score <= 1:
        raise UsageError(f"--min_score is {given.min_score:g}; it must be 0 to 1.")
    if given.link and not given.sort_into:
        raise UsageError("--link says how --sort_into sorts. Give --sort_into a folder.")
    if given.sort_into:
        from retrain.inference import sorting

        sorting.check(given.sort_into, [Path(word) for word in given.images])


def _show(results: "Iterable[Prediction]", given: Namespace, *, total: int, single: bool) -> int:
    """Print the results as they come, sort their images, and return the exit code."""
    show = _printer(given, single=single)
    advance = _progress(total) if total != 1 else lambda done: None
    code, sorted_images, unsure = DONE, 0, 0
    for done, result in enumerate(results, 1):
        show(result)
        if result.error:
            code = FAILED
            print(f"label_image: {printable(str(result.path))}: {result.error}", file=sys.stderr)
        elif not result.ranked:
            unsure += 1
        elif given.sort_into:
            from retrain.inference import sorting

            sorting.put(result.path, result.ranked[0].label, given.sort_into, link=given.link)
            sorted_images += 1
        advance(done)
    if given.sort_into:
        below = f"; {unsure} scored below {given.min_score:g} and stayed where they are" if unsure else ""
        print(f"label_image: {sorted_images} image(s) sorted into {given.sort_into}{below}", file=sys.stderr)
    return code


def _progress(total: int) -> Callable[[int], None]:
    """Return what shows how many images are done, where the answers themselves do not show it."""
    if sys.stdout.isatty():
        return lambda done: None
    from retrain.terminal import Terminal

    advance = Terminal().progress("Labelling", "image")
    return lambda done: advance(done, total)


def _printer(given: Namespace, *, single: bool) -> "Callable[[Prediction], None]":
    if given.json:
        return _print_json
    if given.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        return lambda result: _print_rows(result, writer)
    return _print_timed() if single else _print_block


def _print_json(result: "Prediction") -> None:
    ranked = [{"label": r.label, "score": round(r.score, 6)} for r in result.ranked]
    outcome = {"error": result.error} if result.error else {"labels": ranked}
    print(json.dumps({"image": str(result.path), **outcome}), flush=True)


def _print_rows(result: "Prediction", writer: Any) -> None:
    for rank, ranked in enumerate(result.ranked, 1):
        writer.writerow((result.path, rank, ranked.label, f"{ranked.score:.6f}", ""))
    if not result.ranked:
        writer.writerow((result.path, "", "", "", result.error or ""))
    sys.stdout.flush()


def _print_timed() -> "Callable[[Prediction], None]":
    """Return what prints the classes of one image as the codelab does."""
    started = time.perf_counter()

    def show(result: "Prediction") -> None:
        if not result.error:
            print(f"\nEvaluation time (1-image): {time.perf_counter() - started:.3f}s\n")
            _print_ranked(result)

    return show


def _print_block(result: "Prediction") -> None:
    """Print the classes of one image of several under its path."""
    if not result.error:
        print(printable(str(result.path)))
        _print_ranked(result)
        print(flush=True)


def _print_ranked(result: "Prediction") -> None:
    for ranked in result.ranked:
        print(f"{printable(ranked.label)} (score={ranked.score:.5f})")
