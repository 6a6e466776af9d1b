"""`python -m scripts.count_ops GRAPH [NAME]`: how many operations a graph holds."""

from retrain.cli.count_ops import command

if __name__ == "__main__":
    command()
