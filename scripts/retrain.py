"""`python -m scripts.retrain`, as the codelab calls it: the `retrain` command."""

from retrain.cli import retrain_command

if __name__ == "__main__":
    retrain_command()
