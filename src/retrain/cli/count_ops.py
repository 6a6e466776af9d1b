"""`count_ops`: counts the operations of a frozen graph."""

from collections.abc import Sequence
from functools import partial

from retrain.cli import console, flags, places


def main(arguments: Sequence[str]) -> int:
    """Print the number of operations, or of those with a given name or type, and return the exit code."""
    parser = flags.Parser(prog="count_ops", description="Counts the operations of a frozen graph.")
    parser.add_argument("graph", type=places.local)
    parser.add_argument("name", nargs="?", help="count only operations of this name or type, Conv2D for example")
    flags.add_file_size(parser)
    args = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain import files
    from retrain.graphs import nodes, reading

    files.bound_reading(args.max_file_size)
    names = [(node.name, node.op) for node in nodes.all_nodes(reading.read_judged(args.graph))]
    print(len(names) if args.name is None else sum(args.name in pair for pair in names))
    return console.DONE


command = partial(console.run, "count_ops", main)
