"""`python -m scripts.graph_pb2tb OUT_DIR GRAPH`: a graph for TensorBoard's graph page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from retrain.cli import (
    console,
    flags,
)
from retrain.errors import printable
from retrain.evaluation import tensorboard
from retrain.graphs import reading


def main(arguments: Sequence[str]) -> int:
    """Write a graph, its weights left out, to where TensorBoard finds it."""
    parser = argparse.ArgumentParser(prog="graph_pb2tb", description="Writes a frozen graph for TensorBoard.")
    parser.add_argument("out_dir", type=Path, help="folder to give to tensorboard --logdir")
    parser.add_argument("graph", type=Path)
    given = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain.evaluation.tensorboard import Summaries

    sketch = tensorboard.sketch(reading.read_graph(given.graph), scope="backbone")
    with Summaries(given.out_dir, runs=(".",)) as summaries:
        summaries.graph(sketch.SerializeToString())
    print(printable(f"See the graph: tensorboard --logdir {given.out_dir}"))
    return console.DONE


if __name__ == "__main__":
    console.run("graph_pb2tb", main)
