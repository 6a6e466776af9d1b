"""`python -m scripts.evaluate GRAPH`, as the codelab calls it: the `evaluate` command."""

import sys
from pathlib import Path

# Run as a file, this folder comes first on the path, and retrain.py in it would hide the package of that name.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from retrain.cli import evaluate_command  # noqa: E402

if __name__ == "__main__":
    evaluate_command()
