"""`python -m scripts.evaluate GRAPH`, as the codelab calls it: the `evaluate` command."""

from retrain.cli.evaluate import command

if __name__ == "__main__":
    command()
