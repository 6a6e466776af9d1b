"""`python -m scripts.retrain`, as the codelab calls it: the `retrain` command."""

import importlib
import sys
from pathlib import Path

# A script that is run as a file has this folder first on its path, where this file hides the package of its name: it
# steps aside, for itself and for the other scripts that find it in the package's place.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]
if __name__ == "retrain":
    del sys.modules["retrain"]
    sys.modules["retrain"] = importlib.import_module("retrain")

if __name__ == "__main__":
    from retrain.cli.retrain import original_command

    original_command()
