"""`graph_pb2tb`: writes a frozen graph for TensorBoard's graph page."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from retrain.cli import console, flags
from retrain.errors import printable


def main(arguments: Sequence[str]) -> int:
    """Write a graph without its weights to where TensorBoard finds it, and return the exit code."""
    parser = flags.Parser(prog="graph_pb2tb", description="Writes a frozen graph for TensorBoard.")
    parser.add_argument("out_dir", type=Path, help="folder to pass to tensorboard --logdir")
    parser.add_argument("graph", type=Path)
    args = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain.evaluation import tensorboard
    from retrain.graphs import reading

    sketch = tensorboard.sketch(reading.read_graph(args.graph), scope="backbone")
    with tensorboard.Summaries(args.out_dir, runs=(".",)) as summaries:
        summaries.graph(sketch.SerializeToString())
    print(printable(f"See the graph: tensorboard --logdir {args.out_dir}"))
    return console.DONE


command = partial(console.run, "graph_pb2tb", main)
