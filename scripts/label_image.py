"""`python -m scripts.label_image`, as the codelab calls it: the `label_image` command."""

from retrain.cli.label_image import command

if __name__ == "__main__":
    command()
