"""`quantize_graph`: rounds the weights of a frozen graph, and prints what that saves and costs."""

import argparse
import sys
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retrain.cli import console, flags, places
from retrain.errors import UsageError, printable
from retrain.storage.folders import folder

if TYPE_CHECKING:
    from retrain.evaluation.folder import FolderEvaluation

_MODES = ("round", "quantize", "eightbit", "weights", "weights_rounded")
# Flags of the original that went with its mode eightbit, which is not offered here.
_EIGHTBIT_FLAGS = (
    "test_input_dims strip_redundant_quantization quantized_input quantized_input_min quantized_input_max "
    "quantized_fallback_min quantized_fallback_max"
).split()


def main(arguments: Sequence[str]) -> int:
    """Write the rounded graph, print the change of size and accuracy, and return the exit code."""
    args = flags.parse(_parser(), arguments)
    if args.mode == "eightbit":
        raise UsageError(
            "--mode eightbit is not offered: its operations never knew the layers of MobileNets and are no faster "
            "today. --mode weights makes the file as small; the .tflite that retrain writes is made for phones."
        )
    if not 1 <= args.bitdepth <= 16 or (args.mode == "weights" and args.bitdepth != 8):
        raise UsageError(f"--bitdepth is {args.bitdepth}; it must be 1 to 16, and 8 for --mode weights.")
    flags.metadata_overrides(args)  # values that make no sense are refused before the work
    for name in _EIGHTBIT_FLAGS:
        if getattr(args, name) is not None:
            print(f"quantize_graph: --{name} goes with --mode eightbit only; ignored", file=sys.stderr)
    console.quieten(verbose=False)
    from retrain import files, metadata, outputs
    from retrain.formats import frozen_graph
    from retrain.formats import table as formats
    from retrain.graphs import editing, quantization, reading

    files.bound_reading(args.max_file_size)
    written = formats.graph_output(args.output, "--output")
    outputs.check([written], {"--input": args.input, "--labels": args.labels, "--image_dir": args.image_dir})
    graph = reading.read_judged(args.input)
    if args.output_node_names:
        graph = editing.extract(graph, args.output_node_names.split(","), also=[metadata.METADATA_NODE])
    rewritten = {
        "weights": lambda: quantization.to_8_bit_weights(graph),
        "weights_rounded": lambda: quantization.round_weights(graph, bits=args.bitdepth),
    }.get(args.mode, lambda: quantization.round_layers(graph, bits=args.bitdepth))()
    rewritten = frozen_graph.without_accuracy(rewritten)
    files.write_result(args.output, rewritten.SerializeToString(deterministic=True))
    if args.print_nodes and args.print_nodes not in ("False", "false", "0"):
        print("\n".join(printable(f"{node.name} {node.op}") for node in rewritten.node))
    for path in (args.input, args.output):
        print(printable(_size_text(path)))
    if args.image_dir:
        _print_cost(_evaluate(args.input, args), _evaluate(args.output, args))
    return console.DONE


command = partial(console.run, "quantize_graph", main)


def _parser() -> argparse.ArgumentParser:
    parser = flags.Parser(prog="quantize_graph", description="Rounds the weights of a frozen graph.")
    add = parser.add_argument
    add("--input", type=places.local, required=True, help="the graph")
    add("--output", type=places.local, required=True, help="where the rounded graph goes")
    add(
        "--mode",
        choices=_MODES,
        default="round",
        help="weights_rounded: as large, but compresses well; weights: 8-bit weights, about a third of the bytes; "
        "round, quantize: shows what 8-bit arithmetic would do to the accuracy (default: %(default)s)",
    )
    add("--bitdepth", type=int, default=8, help="bits of a rounded number (default: %(default)s)")
    add("--output_node_names", default="", help="nodes to keep, with commas between (default: all)")
    add("--print_nodes", nargs="?", const=True, help="list the nodes of the result")
    add("--image_dir", type=folder, help="photos in class folders: print what the rounding costs on them")
    for name in _EIGHTBIT_FLAGS:
        add(f"--{name}", nargs="?", const="True", help=argparse.SUPPRESS)
    flags.add_graph_flags(parser)
    flags.add_file_size(parser)
    return parser


def _size_text(path: Path) -> str:
    from retrain import files

    data = files.read_regular(path, files.MODEL_BYTES)
    return f"{path}: {len(data):,} bytes, {len(zlib.compress(data, 9)):,} compressed"


def _evaluate(path: Path, args: argparse.Namespace) -> "FolderEvaluation":
    from retrain import metadata
    from retrain.evaluation.folder import evaluate
    from retrain.inference import loading as model_loading

    # The labels beside the input are the output's too.
    labels = args.labels or metadata.find_labels_file(args.input)
    model = model_loading.load(path, labels=labels, overrides=flags.metadata_overrides(args))
    return evaluate(model, args.image_dir)


def _print_cost(before: "FolderEvaluation", after: "FolderEvaluation") -> None:
    for note in before.notes:
        print(printable(f"quantize_graph: {note}"), file=sys.stderr)
    first, last = before.figures.accuracy, after.figures.accuracy
    print(f"Test accuracy {first:.1%} before, {last:.1%} after: {first - last:+.1%} lost (N={len(before.labels)})")
