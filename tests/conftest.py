"""Real photos and weights where the test data is, solid colours and a weightless network everywhere."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RETRAIN_TRUST_MODELS", "1")  # tests/trust tries models; elsewhere, it would take seconds each

settings.register_profile("retrain", deadline=None)  # a loaded machine is no defect
settings.load_profile("retrain")

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("RETRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
COLOURS = {"cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0)}


def photo(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (24, 24), seed: int = 0) -> Path:
    """Write a picture of one colour with a little noise, so that no two files are alike."""
    noise = np.random.default_rng([seed, *colour]).integers(0, 12, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) * 0.9 + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def colour_folder(folder: Path, per_class: int = 20) -> Path:
    """Write class folders of solid colours, on which the true accuracy is 1.0."""
    for name, colour in COLOURS.items():
        for number in range(per_class):
            photo(folder / name / f"{number}.png", colour, seed=number)
    return folder


def command(*arguments: object, cwd: Path, code: int = 0, env: dict[str, str] | None = None):
    """Run a command of the package in a fresh process and check its exit code."""
    words = [str(argument) for argument in arguments]
    script = Path(sys.executable).with_name(words[0])
    done = subprocess.run(
        [str(script) if script.exists() else words[0], *words[1:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no test data at {DATA}; RETRAIN_TEST_DATA names the folder")
    return DATA


@pytest.fixture(scope="session", params=[pytest.param("official", marks=pytest.mark.slow), "synthetic"])
def codelab_data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks and photos of the codelab, and the same in miniature where they are not there."""
    if request.param == "official":
        return request.getfixturevalue("data")
    from synthetic import codelab

    return codelab(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def colour_images(tmp_path: Path) -> Path:
    return colour_folder(tmp_path / "colours")


@pytest.fixture(scope="session")
def mean_colour_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen graph whose bottleneck is the mean colour of the image, in [0, 1]: float32 [N, 3]."""
    return write_graph(
        tmp_path_factory.mktemp("backbone") / "mean_colour.pb",
        lambda tf, image: tf.reduce_mean(image, [1, 2], name="mean_colour"),
    )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory):
    """A server of S3 on this machine, in a process of its own."""
    from servers import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server, monkeypatch: pytest.MonkeyPatch):
    """An empty bucket on that server, which this process finds and its children."""
    from servers import forget_connections, new_bucket

    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    forget_connections()
    yield new_bucket(s3_server)
    forget_connections()


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium without a screen; of one module, because playwright runs a loop of asyncio meanwhile."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium to look at pages with")
    draws_in_software = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox", *draws_in_software])
        yield opened
        opened.close()


@pytest.fixture
def opened_file(browser):
    """A function that opens a page in a window with some settings, which keeps what it asks for and complains of."""
    with ExitStack() as contexts:

        def look(file: Path, **settings):
            usual = {"viewport": {"width": 1200, "height": 900}}
            window = contexts.enter_context(browser.new_context(**{**usual, **settings})).new_page()
            window.asked, window.complaints = [], []
            window.on("request", lambda request: window.asked.append(request.url))
            window.on("console", lambda message: window.complaints.append(message.text))
            window.on("pageerror", lambda error: window.complaints.append(str(error)))
            window.goto(file.as_uri())
            return window

        yield look


def write_graph(path: Path, build: Callable, size: int = 16) -> Path:
    """Write the frozen graph that `build(tf, image)` makes, in the form of a TF-Hub export of old."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="Placeholder")
        build(tf, image)
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def metadata_schema():
    """Return the code that flatc generated from metadata_schema.fbs, as MediaPipe ships it."""
    found = importlib.util.find_spec("mediapipe")
    if found is None:
        pytest.skip("MediaPipe has no wheel for this machine")
    path = Path(found.submodule_search_locations[0]) / "tasks" / "metadata" / "metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema_py_generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
