import pytest
from builders import SIZE
from conftest import COLOURS, colour_folder, command, photo

from retrain.formats.table import EXPORTS


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A training with the bundled network, exported in every format, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    colour_folder(folder / "photos", per_class=30)
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", "mobilenet_bundled", "--how_many_training_steps", "60",
        "--image_size", str(SIZE), "--export", ",".join(EXPORTS), cwd=folder,
    )  # fmt: skip
    return folder, done


@pytest.fixture(scope="session")
def graph(run):
    return run[0] / "tf_files" / "retrained_graph.pb"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return {name: photo(folder / f"{name}.jpg", colour, (90, 70), seed=9) for name, colour in COLOURS.items()}
