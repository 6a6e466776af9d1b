"""`label_image`: prints the best classes of each image, and sorts images by them."""

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retrain.cli import flags, label_parts, lean_tensorflow
from retrain.cli.console import DONE, FAILED, quieten, run
from retrain.errors import UsageError, printable, shell_quoted
from retrain.files import bound_reading
from retrain.storage.folders import Folder, folder

if TYPE_CHECKING:
    from retrain.inference.prediction import Prediction

_PIECES_AT_MOST = 10  # of a name with spaces in it


def main(arguments: Sequence[str]) -> int:
    """Print the best classes of each image and return the exit code, 1 if an image could not be read."""
    args = flags.parse(flags.label_image_parser(), arguments)
    _check(args)
    overrides = flags.metadata_overrides(args)
    quieten(verbose=args.verbose)
    bound_reading(args.max_file_size)
    if args.describe:
        from retrain.inference import description

        for line in description.describe_model(args.graph, labels=args.labels, overrides=overrides):
            print(printable(line))
        return DONE
    words = _words(args)
    _check_words(words)
    inputs = None if args.results else _inputs(words)
    from retrain.inference import loading as model_loading
    from retrain.inference import prediction

    lean_tensorflow.install_for(model_loading.file_to_load(args.graph, overrides))
    model = model_loading.load(args.graph, labels=args.labels, overrides=overrides)
    if args.verbose:
        print(printable(f"label_image: {args.graph}: {model.metadata.summary()}"), file=sys.stderr)
    if inputs is None:
        return label_parts.run(args, model, words)
    results = prediction.label(model, inputs.paths, k=args.top_k, min_score=args.min_score, views=args.views)
    return _print_results(results, args, inputs, model.metadata.labels)


command = partial(run, "label_image", main)


@dataclass(frozen=True)
class _Inputs:
    """The images to label, their number, 0 where it is unknown, and whether they are the one file that was named."""

    paths: Iterable[Folder]
    count: int
    single: bool


def _words(args: Namespace) -> list[str]:
    return [*([args.image] if args.image else []), *args.images]


def _inputs(words: Sequence[str]) -> _Inputs:
    from retrain.data import image_files

    paths = image_files.expand_paths([word for word in words if word != image_files.STANDARD_INPUT])
    if image_files.STANDARD_INPUT in words:
        return _Inputs(itertools.chain(paths, image_files.read_paths(sys.stdin.buffer)), 0, single=False)
    return _Inputs(paths, len(paths), single=len(words) == 1 and paths == [folder(words[0])])


def _check_words(words: Sequence[str]) -> None:
    if not words:
        raise UsageError("no image given. Name image files, folders or patterns, or - for a list on standard input.")
    _check_spaces(words)


def _check_spaces(words: Sequence[str]) -> None:
    """Refuse the pieces of a name with spaces in it, which the shell passes one by one where it is not quoted."""
    missing = {number for number, word in enumerate(words) if not Path(word).exists()}
    for first in missing:
        joined = words[first]
        for number in range(first + 1, first + _PIECES_AT_MOST):
            if number not in missing:
                break
            joined += f" {words[number]}"
            if Path(joined).exists():
                raise UsageError(f"{joined!r} has a space in its name. Quote it: {shell_quoted(joined)}")


def _check(args: Namespace) -> None:
    if args.top_k < 1:
        raise UsageError(f"--top_k is {args.top_k}; it must be at least 1.")
    if not 0 <= args.min_score <= 1:
        raise UsageError(f"--min_score is {args.min_score:g}; it must be 0 to 1.")
    label_parts.check(args)
    if args.link and not args.sort_into:
        raise UsageError("--link goes with --sort_into. Give --sort_into a folder.")
    if args.sort_into:
        from retrain import outputs
        from retrain.data import image_files
        from retrain.inference import sorting

        for word in _words(args):
            _on_this_machine(image_files.named(word))
        outputs.check([outputs.Output(args.sort_into, "--sort_into")], {"--graph": args.graph, "--labels": args.labels})
        sorting.check(args.sort_into, _words(args))


def _print_results(results: "Iterable[Prediction]", args: Namespace, inputs: _Inputs, labels: Sequence[str]) -> int:
    """Print the results as they come, sort their images, and return the exit code."""
    from retrain.terminal import Terminal

    put = _sorter(args, labels) if args.sort_into else None
    print_result = _printer(args, single=inputs.single)
    code, sorted_images, unsure = DONE, 0, 0
    with Terminal() as terminal:
        # The results on a terminal show how far it is.
        shown = inputs.count != 1 and not sys.stdout.isatty()
        advance = terminal.progress("Labelling", "image") if shown else lambda done, total: None
        for done, result in enumerate(results, 1):
            print_result(result)
            if result.error:
                code = FAILED
                terminal.error("label_image", f"{result.path}: {result.error}")
            elif not result.ranked:
                unsure += 1
            elif put:
                put(result.path, result.ranked[0].label)
                sorted_images += 1
            advance(done, inputs.count)
    if args.sort_into:
        images = "1 image" if sorted_images == 1 else f"{sorted_images} images"
        below = f"; {unsure} scored below {args.min_score:g} and stayed in place" if unsure else ""
        print(f"label_image: {images} sorted into {args.sort_into}{below}", file=sys.stderr)
    return code


def _sorter(args: Namespace, labels: Sequence[str]) -> Callable[[Folder, str], Path]:
    """Return a function that puts an image into the folder of its class."""
    from retrain.inference import sorting

    folders = sorting.class_folders(labels, args.sort_into)

    def put(path: Folder, label: str) -> Path:
        return sorting.put(_on_this_machine(path), folders[label], link=args.link)

    return put


def _on_this_machine(path: Folder) -> Path:
    """Return a path whose images can be sorted; a UsageError if it is remote."""
    if isinstance(path, Path):
        return path
    raise UsageError(f"--sort_into copies files of this machine, and {path} is remote. Use --csv or --json there.")


def _printer(args: Namespace, *, single: bool) -> "Callable[[Prediction], None]":
    if args.json or args.csv:
        from retrain.inference import lines

        form = lines.JSON if args.json else lines.CSV
        print(lines.heading(form), end="")
        return lambda result: print(lines.lines_of(result, form), end="", flush=True)
    return _print_timed() if single else _print_block


def _print_timed() -> "Callable[[Prediction], None]":
    """Return a function that prints the classes of one image as the codelab does."""
    started = time.perf_counter()

    def print_result(result: "Prediction") -> None:
        if not result.error:
            print(f"\nEvaluation time (1-image): {time.perf_counter() - started:.3f}s\n")
            _print_ranked(result)

    return print_result


def _print_block(result: "Prediction") -> None:
    """Print the classes of one image of several under its path."""
    if not result.error:
        print(printable(str(result.path)))
        _print_ranked(result)
        print(flush=True)


def _print_ranked(result: "Prediction") -> None:
    for ranked in result.ranked:
        print(f"{printable(ranked.label)} (score={ranked.score:.5f})")
