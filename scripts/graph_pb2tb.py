"""`python -m scripts.graph_pb2tb OUT_DIR GRAPH`: a graph for TensorBoard's graph page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, this folder comes first on the path, and retrain.py in it would hide the package of that name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from retrain import console, flags, graphs  # noqa: E402
from retrain.errors import printable  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Write a graph, its weights left out, to where TensorBoard finds it."""
    parser = argparse.ArgumentParser(prog="graph_pb2tb", description="Writes a frozen graph for TensorBoard.")
    parser.add_argument("out_dir", type=Path, help="folder to give to tensorboard --logdir")
    parser.add_argument("graph", type=Path)
    given = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain.summaries import Summaries

    sketch = graphs.sketch(graphs.read(given.graph), scope="backbone")
    with Summaries(given.out_dir, runs=(".",)) as summaries:
        summaries.graph(sketch.SerializeToString())
    print(printable(f"See the graph: tensorboard --logdir {given.out_dir}"))
    return console.DONE


if __name__ == "__main__":
    console.run("graph_pb2tb", main)
