"""`python -m scripts.evaluate GRAPH`: how good a graph is on the test photos."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, this folder comes first on the path, and retrain.py in it would hide the package of that name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from retrain import cli, flags  # noqa: E402
from retrain.errors import printable  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Print accuracy and cross-entropy of a graph on the test photos of a folder."""
    parser = argparse.ArgumentParser(prog="evaluate", description="Measures a graph on the test photos of a folder.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--image_dir", type=Path, default="tf_files/flower_photos", help="default: %(default)s")
    parser.add_argument("--testing_percentage", type=float, default=10, help="as in training (default: %(default)s)")
    parser.add_argument("--validation_percentage", type=float, default=10, help="as in training (default: %(default)s)")
    flags.add_graph_flags(parser)
    given = flags.parse(parser, arguments)
    cli.quieten(verbose=False)
    from retrain import evaluation, label
    from retrain.evaluate import evaluate
    from retrain.report import Terminal

    model = label.load(given.graph, labels=given.labels, own=cli.own_metadata(given))
    found = evaluate(
        model,
        given.image_dir,
        validation_percentage=given.validation_percentage,
        testing_percentage=given.testing_percentage,
        advance=Terminal().progress("Evaluating", "image"),
    )
    for name in found.unknown:
        print(printable(f"evaluate: the graph has no class for the folder {name!r}, left out"), file=sys.stderr)
    for path, reason in found.rejected.items():
        print(printable(f"evaluate: {path}: {reason}, left out"), file=sys.stderr)
    accuracy, count = evaluation.accuracy(found.probabilities, found.labels), len(found.labels)
    interval = evaluation.wilson_interval(round(accuracy * count), count)
    print(f"Accuracy: {accuracy:g} (N={count}, 95% interval {interval.low:.1%} to {interval.high:.1%})")
    print(f"Cross Entropy: {evaluation.cross_entropy(found.probabilities, found.labels):g}")
    return cli.DONE


if __name__ == "__main__":
    cli.run("evaluate", main)
