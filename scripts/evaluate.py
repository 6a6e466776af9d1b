"""`python -m scripts.evaluate GRAPH`, as the codelab calls it: the `evaluate` command."""

from retrain.cli.retrain import evaluate_command

if __name__ == "__main__":
    evaluate_command()
