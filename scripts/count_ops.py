"""`python -m scripts.count_ops GRAPH [NAME]`: how many operations a graph holds."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, this folder comes first on the path, and retrain.py in it would hide the package of that name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from retrain import console, flags, graphs  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Print the number of operations, or of those whose name or type is NAME."""
    parser = argparse.ArgumentParser(prog="count_ops", description="Counts the operations of a frozen graph.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("name", nargs="?", help="count only operations of this name or type, Conv2D for example")
    given = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    nodes = list(graphs.all_nodes(graphs.read(given.graph)))
    print(len(nodes) if given.name is None else sum(given.name in (node.name, node.op) for node in nodes))
    return console.DONE


if __name__ == "__main__":
    console.run("count_ops", main)
