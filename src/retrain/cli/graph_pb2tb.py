"""`graph_pb2tb`: writes a frozen graph for TensorBoard's graph page."""

from collections.abc import Sequence
from functools import partial

from retrain.cli import console, flags, places
from retrain.errors import printable, shell_quoted


def main(arguments: Sequence[str]) -> int:
    """Write a graph without its weights to where TensorBoard finds it, and return the exit code."""
    parser = flags.Parser(prog="graph_pb2tb", description="Writes a frozen graph for TensorBoard.")
    parser.add_argument("out_dir", type=places.local, help="folder to pass to tensorboard --logdir")
    parser.add_argument("graph", type=places.local)
    flags.add_file_size(parser)
    args = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain import files
    from retrain.evaluation import tensorboard
    from retrain.graphs import reading

    files.bound_reading(args.max_file_size)
    sketch = tensorboard.sketch(reading.read_judged(args.graph), scope="backbone")
    with tensorboard.Summaries(args.out_dir, runs=(".",)) as summaries:
        summaries.graph(sketch.SerializeToString(deterministic=True))
    print(printable(f"See the graph: retrain tensorboard --logdir {shell_quoted(str(args.out_dir))}"))
    return console.DONE


command = partial(console.run, "graph_pb2tb", main)
