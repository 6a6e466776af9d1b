"""`python -m scripts.count_ops GRAPH [NAME]`: how many operations a graph holds."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from retrain.cli import (
    console,
    flags,
)
from retrain.graphs import (
    nodes,
    reading,
)


def main(arguments: Sequence[str]) -> int:
    """Print the number of operations, or of those whose name or type is NAME."""
    parser = argparse.ArgumentParser(prog="count_ops", description="Counts the operations of a frozen graph.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("name", nargs="?", help="count only operations of this name or type, Conv2D for example")
    given = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    found = list(nodes.all_nodes(reading.read_graph(given.graph)))
    print(len(found) if given.name is None else sum(given.name in (node.name, node.op) for node in found))
    return console.DONE


if __name__ == "__main__":
    console.run("count_ops", main)
