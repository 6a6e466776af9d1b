"""`python -m retrain`: the `retrain` command."""

from retrain.cli.retrain import command

if __name__ == "__main__":
    command()
