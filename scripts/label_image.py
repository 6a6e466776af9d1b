"""`python -m scripts.label_image`, as the codelab calls it: the `label_image` command."""

from retrain.cli.retrain import label_image_command

if __name__ == "__main__":
    label_image_command()
