"""`python -m scripts.show_image IMAGE ...`: photos with the names of those who took them."""

from retrain.cli.show_image import command

if __name__ == "__main__":
    command()
