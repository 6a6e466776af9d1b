"""`python -m scripts.quantize_graph --input GRAPH --output GRAPH`: a graph with weights rounded to few values."""

from retrain.cli.quantize_graph import command

if __name__ == "__main__":
    command()
