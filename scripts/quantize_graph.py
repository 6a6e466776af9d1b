"""`python -m scripts.quantize_graph --input GRAPH --output GRAPH`: a graph with weights rounded to few values."""

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from retrain.cli import (
    console,
    flags,
)
from retrain.errors import (
    UsageError,
    printable,
)

_MODES = ("round", "quantize", "eightbit", "weights", "weights_rounded")
# What the original took for its mode eightbit, which is not offered here.
_OF_EIGHTBIT = (
    "test_input_dims strip_redundant_quantization quantized_input quantized_input_min quantized_input_max "
    "quantized_fallback_min quantized_fallback_max"
).split()


def parser() -> argparse.ArgumentParser:
    """Return the parser of `quantize_graph`."""
    made = argparse.ArgumentParser(prog="quantize_graph", description="Rounds the weights of a frozen graph.")
    made.add_argument("--input", type=Path, required=True, help="the graph")
    made.add_argument("--output", type=Path, required=True, help="where the rounded graph goes")
    made.add_argument(
        "--mode",
        choices=_MODES,
        default="round",
        help="weights_rounded: as large, but compresses well; weights: 8-bit weights, about a third of the bytes; "
        "round, quantize: shows what 8-bit arithmetic would do to the accuracy (default: %(default)s)",
    )
    made.add_argument("--bitdepth", type=int, default=8, help="bits of a rounded number (default: %(default)s)")
    made.add_argument("--output_node_names", default="", help="nodes to keep, with commas between (default: all)")
    made.add_argument("--print_nodes", nargs="?", const=True, help="list the nodes of the result")
    made.add_argument("--image_dir", type=Path, help="photos in class folders: print what the rounding costs on them")
    for name in _OF_EIGHTBIT:
        made.add_argument(f"--{name}", nargs="?", const="True", help=argparse.SUPPRESS)
    flags.add_graph_flags(made)
    return made


def main(arguments: Sequence[str]) -> int:
    """Write the rounded graph, and print what that changes."""
    given = flags.parse(parser(), arguments)
    if given.mode == "eightbit":
        raise UsageError(
            "--mode eightbit is not offered: its operations never knew the layers of MobileNets and are no faster "
            "today. --mode weights makes the file as small; the .tflite that retrain writes is made for phones."
        )
    if not 1 <= given.bitdepth <= 16 or (given.mode == "weights" and given.bitdepth != 8):
        raise UsageError(f"--bitdepth is {given.bitdepth}; it must be 1 to 16, and 8 for --mode weights.")
    for name in _OF_EIGHTBIT:
        if getattr(given, name) is not None:
            print(f"quantize_graph: --{name} goes with --mode eightbit only, passed over", file=sys.stderr)
    console.quieten(verbose=False)
    from retrain import files, metadata
    from retrain.formats import frozen_graph
    from retrain.graphs import editing, quantization, reading

    graph = reading.read_graph(given.input)
    if given.output_node_names:
        graph = editing.extract(graph, given.output_node_names.split(","), also=[metadata.METADATA_NODE])
    rewritten = {
        "weights": lambda: quantization.to_8_bit_weights(graph),
        "weights_rounded": lambda: quantization.round_weights(graph, bits=given.bitdepth),
    }.get(given.mode, lambda: quantization.round_layers(graph, bits=given.bitdepth))()
    rewritten = frozen_graph.without_accuracy(rewritten)
    files.write_result(given.output, rewritten.SerializeToString(deterministic=True))
    if given.print_nodes and given.print_nodes not in ("False", "false", "0"):
        print("\n".join(printable(f"{node.name} {node.op}") for node in rewritten.node))
    for path in (given.input, given.output):
        size, packed = path.stat().st_size, len(zlib.compress(path.read_bytes(), 9))
        print(printable(f"{path}: {size:,} bytes, {packed:,} compressed"))
    if given.image_dir:
        _print_cost(given)
    return console.DONE


def _print_cost(given: argparse.Namespace) -> None:
    from retrain import metadata
    from retrain.evaluation import metrics
    from retrain.evaluation.folder import evaluate
    from retrain.inference import loading as model_loading

    accuracies = []
    for path in (given.input, given.output):
        # The labels beside the input are the output's too.
        labels = given.labels or metadata.find_labels_file(given.input)
        found = evaluate(model_loading.load(path, labels=labels, overrides=flags.own_metadata(given)), given.image_dir)
        accuracies.append(metrics.accuracy(found.probabilities, found.labels))
    before, after = accuracies
    drop = before - after
    print(f"Test accuracy {before:.1%} before, {after:.1%} after: {drop:+.1%} lost (N={len(found.labels)})")


if __name__ == "__main__":
    console.run("quantize_graph", main)
