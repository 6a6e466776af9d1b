import contextlib
import io
import os
import pickle
import re
import shutil
import sqlite3
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, colour_folder, command
from PIL import Image

from retrain.bottlenecks.store import Entry, Store
from retrain.storage.stamps import Stamp

SAMPLES = ROOT / "scripts" / "make_sample_photos.py"


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["logits", "features"])
def test_a_backbone_can_be_pretrained_and_used(tmp_path, codelab_data, teacher):
    colour_folder(tmp_path / "photos", per_class=6)
    words = {
        "logits": [
            "--teacher=mobilenet_0.25_128",
            "--logits=MobilenetV1/Predictions/Reshape",
            f"--model_dir={codelab_data}/models",
        ],
        "features": ["--teacher=mobilenet_bundled"],
    }[teacher]
    done = command(
        "python", "-m", "scripts.pretrain_backbone", f"--image_dir={tmp_path}/photos", f"--output={tmp_path}/new.npz",
        "--alpha=0.25", "--crops=2", "--steps=9", "--batch_size=8", *words, cwd=ROOT,
    )  # fmt: skip
    for what in (r"Computing the teacher's outputs: 18/18 \(\d", r"Training the student: 9/9 \(\d"):
        assert re.search(f"^{what}", done.stderr, re.M)
    losses = [float(loss) for loss in re.findall(r"loss = ([\d.]+)", done.stdout)]
    assert losses[-1] < losses[0]
    with (
        np.load(tmp_path / "new.npz") as arrays,
        np.load(ROOT / "src/retrain/backbones/weights/mobilenet_bundled.npz") as bundled,
    ):
        assert set(arrays) == set(bundled)
        assert {name: array.dtype for name, array in arrays.items()} == {n: a.dtype for n, a in bundled.items()}
        assert arrays["conv1/kernel"].shape == (3, 3, 3, 8)
    trained = command(
        "retrain", "--image_dir=photos", "--architecture=mobilenet_bundled", "--weights=new.npz",
        "--how_many_training_steps=20", cwd=tmp_path,
    )  # fmt: skip
    assert ": 18 computed, 0 from the cache." in trained.stdout


@pytest.mark.slow
def test_sample_photos_follow_the_seed(tmp_path):
    for folder, seed in (("one", 3), ("same", 3), ("other", 4)):
        command("python", SAMPLES, f"--image_dir={folder}", "--per_class=1", f"--seed={seed}", cwd=tmp_path)
    photos = {
        name: [p.read_bytes() for p in sorted((tmp_path / name).rglob("*.jpg"))] for name in ("one", "same", "other")
    }
    assert photos["one"] == photos["same"]
    assert all(a != b for a, b in zip(photos["one"], photos["other"], strict=True))
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "daisy",
        "dandelion",
        "roses",
        "sunflowers",
        "tulips",
    ]
    assert all(is_jpeg.startswith(b"\xff\xd8\xff") for is_jpeg in photos["one"])


# The rival is a module that the benchmark imports.
SCRIPTS = [path for path in sorted((ROOT / "scripts").glob("*.py")) if path.stem != "rival"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_runs_as_a_module_and_as_a_file(path, tmp_path):
    module = command("python", "-m", f"scripts.{path.stem}", "--help", cwd=ROOT).stdout
    assert module.startswith("usage: ")
    assert command("python", path, "--help", cwd=tmp_path).stdout == module


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "doctor").glob("*.py")), ids=lambda path: path.stem)
def test_every_measure_of_the_doctor_runs_as_a_module(path):
    shown = command("python", "-m", f"scripts.doctor.{path.stem}", "--help", cwd=ROOT).stdout
    assert shown.startswith(f"usage: python -m scripts.doctor.{path.stem} ")


def test_make_help_lists_every_target():
    shown = command("make", "--no-print-directory", "help", cwd=ROOT, env={"MAKEFLAGS": ""}).stdout
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[0].split()
    assert [line.split()[1] for line in shown.splitlines()] == targets


@pytest.mark.slow
def test_make_clean_removes_what_retrain_wrote_and_nothing_else(tmp_path, mean_colour_backbone):
    shutil.copy(ROOT / "Makefile", tmp_path)
    colour_folder(tmp_path / "photos", per_class=6)
    command(
        "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        "--how_many_training_steps=4", "--intermediate_store_frequency=2", "--export=saved_model,tflite_fp16,keras",
        "--run_name=a run", cwd=tmp_path,
    )  # fmt: skip
    command(
        "retrain", "photos", "--check", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        cwd=tmp_path,
    )  # fmt: skip
    folder = tmp_path / "tf_files"
    assert len([path for path in folder.rglob("*") if path.is_file()]) > 20
    kept = {path.name for path in folder.rglob("*")}
    assert kept >= {"properties.1", "pictures.sqlite", "report.sqlite", "check_images.html", "check_images.json"}
    theirs = ["my_photos/roses/rose.jpg", "training_summaries/a.jpg", "training_summaries/train/events.out.tfevents.1"]
    theirs += ["bottlenecks/roses/a.jpg_inception.txt", "models/mine.pb", "intermediate_graphs/mine.pb", ".gitkeep"]
    theirs += ["runs/a run/notes.txt", "runs/mine/run.json", "runs/mine/report.html", "runs/mine.txt"]
    theirs += ["intermediate_graphs/intermediate_1.pb", "checkpoints/other.index", "retrained_graph.report.pdf"]
    theirs += [f"{next(folder.glob('bottlenecks/*')).relative_to(folder)}/notes", "retrained_graph_saved_model/notes"]
    for name in theirs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    command("make", "clean", cwd=tmp_path)
    assert {path for path in folder.rglob("*") if path.is_file()} == {folder / name for name in theirs}


def test_make_clean_leaves_results_of_other_tools(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    command("make", "clean", cwd=tmp_path)
    names = ["retrained_graph.pb", "retrained_labels.txt", "retrained_graph.report.html", "checkpoints/checkpoint"]
    for name in [*(f"tf_files/{name}" for name in names), ".venv/bin/python"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("of another tool")
    command("make", "clean", cwd=tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(names) + 2


def test_an_old_python_is_said_in_one_line(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    done = command("make", "setup", "PYTHON=false", cwd=tmp_path, code=2)
    assert "Python 3.11 or newer is needed" in done.stderr


def test_a_gpu_is_looked_for_before_anything_is_installed(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("nvidia-smi", "ls"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = command("make", "train-gpu", cwd=tmp_path, code=2, env=env)
    assert done.stderr.startswith("make train-gpu: no NVIDIA GPU here")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["retrain", "--image_dir=photos", "--architecture=mobilenet_1.0_224"],
        ["retrain", "--image_dir=photos", "--architecture=keras:MobileNetV3Small"],
        ["retrain", "--image_dir=photos", "--tfhub_module=https://127.0.0.1:9/module/1"],
        ["python", "-m", "scripts.cifar10"],
        ["python", "-m", "scripts.download_flowers"],
        ["python", "-m", "scripts.pretrain_backbone", "--image_dir=photos", "--output=x.npz", "--teacher=inception_v3"],
        ["python", "-m", "scripts.lesson_santa", "--image_dir=photos"],
    ],
    ids=lambda words: words[2].removeprefix("--"),
)
def test_without_a_network_the_remedies_are_flags_of_the_command(tmp_path, words):
    colour_folder(tmp_path / "photos", per_class=4)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    # A proxy that nobody answers at is a machine without a network.
    env = {
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "KERAS_HOME": str(tmp_path / "keras"),
    }
    line = command(*words, cwd=tmp_path, code=1, env=env).stderr.strip().splitlines()[-1]
    assert "cannot download" in line
    program = words[: words.index("-m") + 2] if "-m" in words else words[:1]
    known = command(*program, "--help", cwd=tmp_path).stdout
    remedies = set(re.findall(r"--\w+", line.split("cannot download")[1]))
    assert remedies <= set(re.findall(r"--\w+", known))
    assert remedies or "scripts/make_sample_photos.py" in line


def test_label_without_an_image_says_how(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".venv").mkdir()
    for stamp in ("python", "installed"):
        (tmp_path / ".venv" / stamp).touch()
    assert "make label IMAGE=photo.jpg" in command("make", "label", cwd=tmp_path, code=2).stderr


def test_the_benchmark_without_its_photos_says_what_it_needs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for stamp in ("python", "installed-dev"):
        (tmp_path / ".venv" / stamp).touch()
    said, made = command("make", "benchmark", "DATA=my photos", cwd=tmp_path, code=2).stderr.strip().splitlines()
    assert said.startswith("benchmark: there is no folder my photos/datasets/flowers_1100. --data (DATA= of make")
    assert made.startswith("make")
    assert not (tmp_path / "benchmark.json").exists()


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("engine", 2, "--only: invalid choice: 'engine' "),
        ("first_run", 1, "`retrain` ended with exit code 1 in the middle of a measurement: retrain: "),
    ],
)
def test_what_ends_the_benchmark_is_one_line(tmp_path, part, code, said):
    (tmp_path / "datasets" / "flowers_1100").mkdir(parents=True)  # without a photo
    words = ["--only", part, f"--data={tmp_path}", f"--output={tmp_path}/b.json"]
    (line,) = command("python", "-m", "scripts.benchmark", *words, cwd=ROOT, code=code).stderr.splitlines()
    assert line.startswith(f"benchmark: {said}")
    assert code == 1 or "engines" in line  # which parts there are
    assert not (tmp_path / "b.json").exists()


@pytest.mark.slow
def test_the_benchmarks_rival_computes_what_the_original_did(tmp_path, codelab_data):
    from scripts import rival

    from retrain.backbones import catalogue, families
    from retrain.backbones.loading import load_backbone
    from retrain.backbones.runner import TensorFlowRunner
    from retrain.backbones.sources import WeightsRequest
    from retrain.data.decoding import decode

    source = families.locate(catalogue.find("mobilenet_0.25_128"), WeightsRequest(codelab_data / "models"))
    backbone = load_backbone(source, tmp_path)
    theirs = rival.Bottlenecks(backbone.graph, source=backbone.input.node, target=backbone.target, size=128)
    ours = TensorFlowRunner(backbone)
    photos = sorted((codelab_data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))[:8]
    files = rival.fill(photos, theirs, tmp_path / "text")
    for photo, file in zip(photos, files, strict=True):
        vector = np.array([float(value) for value in file.read_text().split(",")])
        own = ours(decode(photo.read_bytes(), height=128, width=128)[None])[0]
        # The same network on the same photo; only the resizing differs, with antialiasing and without.
        assert np.corrcoef(vector, own)[0, 1] > 0.8
    rival.train(files, [0, 1] * 4, steps=11, summaries=tmp_path / "summaries", held_out=4)
    assert len(list((tmp_path / "summaries").rglob("events.out.tfevents.*"))) == 2


def cifar10_archive(path, per_batch=20):
    """Write an archive of CIFAR-10's layout: five training batches, a test batch, and the names."""
    rng = np.random.default_rng(0)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {"batches.meta": {b"label_names": [name.encode() for name in names]}, "readme.html": b"<html>"}
    for batch in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = [number % 10 for number in range(per_batch)]
        files[batch] = {
            b"batch_label": batch.encode(),
            b"labels": labels,
            b"data": np.stack(
                [np.full(3072, 25 * label, np.uint8) + rng.integers(0, 9, 3072, np.uint8) for label in labels]
            ),
            b"filenames": [f"{names[label]}_{batch}_{number}.png".encode() for number, label in enumerate(labels)],
        }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_the_cifar10_archive_becomes_an_image_folder(tmp_path):
    archive = cifar10_archive(tmp_path / "cifar-10-python.tar.gz")
    done = command(
        "python", "-m", "scripts.cifar10", f"--archive={archive}", f"--image_dir={tmp_path}/cifar10", cwd=ROOT
    )
    assert "Wrote 120 pictures of 32 x 32 px" in done.stdout
    assert len(list((tmp_path / "cifar10" / "train" / "frog").iterdir())) == 10
    assert len(list((tmp_path / "cifar10" / "test").glob("*/*.png"))) == 20
    picture = np.asarray(Image.open(tmp_path / "cifar10" / "test" / "cat" / "cat_test_batch_3.png"))
    # The archive has all of one colour before the next; the fourth picture is a cat, number 3.
    assert picture.shape == (32, 32, 3)
    assert picture.min() >= 75
    assert picture.max() < 84


@pytest.mark.parametrize("content", ["rubbish", "program", "other"])
def test_what_is_not_cifar10s_archive_is_one_clear_error_and_runs_nothing(tmp_path, content):
    path = tmp_path / "x.tar.gz"
    if content == "rubbish":
        path.write_bytes(b"rubbish")
    else:
        data = pickle.dumps(Path("x")) if content == "program" else pickle.dumps({b"labels": []})
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("cifar-10-batches-py/batches.meta")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    done = command(
        "python", "-m", "scripts.cifar10", f"--archive={path}", f"--image_dir={tmp_path}/c", cwd=ROOT, code=1
    )
    assert "is not CIFAR-10's archive" in done.stderr


@pytest.mark.slow
def test_the_lesson_on_santa_runs_from_end_to_end(tmp_path):
    for part, count in (("train", 8), ("validation", 4), ("test", 4)):
        colour_folder(tmp_path / "photos" / part, per_class=count)
    done = command(
        "python", "-m", "scripts.lesson_santa", f"--image_dir={tmp_path}/photos", "--architecture=keras:MobileNetV2",
        "--weights=random", "--image_size=32", "--fine_tune_from=block_16", f"--output_dir={tmp_path}/lesson", cwd=ROOT,
    )  # fmt: skip
    assert len(re.findall(r"^Training: (\d+)/\1 \(", done.stderr, re.M)) == 3  # the head of each
    assert len(re.findall(r"^Fine-tuning: step (\d+)/\1,", done.stderr, re.M)) == 1
    for method in ("feature_extraction", "feature_extraction_augmented", "fine_tuning"):
        assert re.search(rf"^{method} +\d+\.\d% +\d+\.\d% \(N=12\)", done.stdout, re.M)
        with Image.open(tmp_path / "lesson" / f"{method}.png") as opened:
            assert opened.size == (1100, 400)


@pytest.mark.slow
def test_the_gain_of_fine_tuning_is_measured_with_the_flags_of_retrain(tmp_path):
    colour_folder(tmp_path / "photos", per_class=12)
    done = command(
        "python", "-m", "scripts.fine_tuning_gain", f"--image_dir={tmp_path}/photos", "--random_seed=0,1",
        "--how_many_training_steps=5", "--fine_tune_from=3", "--fine_tune_steps=2", "--image_size=32",
        f"--bottleneck_dir={tmp_path}/b", cwd=ROOT,
    )  # fmt: skip
    assert len(re.findall(r"^Training: (\d+)/\1 \(", done.stderr, re.M)) == 4
    assert len(re.findall(r"^Fine-tuning: step (\d+)/\1,", done.stderr, re.M)) == 2
    assert re.search(r"^head alone: \d+\.\d+% \(seeds 0, 1: ", done.stdout, re.M)
    assert re.search(r"^gain: [+-]\d+\.\d+%$", done.stdout, re.M)


def torture(*words, code=0, env=None):
    return command("python", "-m", "scripts.torture", *words, cwd=ROOT, code=code, env=env).stdout.splitlines()


@pytest.mark.slow
def test_the_torture_counts_and_each_case_runs_again_alone(tmp_path):
    words = ["--only=image,labels", "--counts=image=40,labels=20", "--minutes=5", f"--inputs={tmp_path}"]
    lines = torture("--seed=3", *words)
    assert re.split("  +", lines[0].strip()) == [
        *("kind", "tried", "tracebacks", "crashes", "hangs", "wrong vectors", "lost vectors", "torn files"),
    ]
    assert [line.split() for line in lines[1:]] == [
        ["image", "40", *"000000"], ["labels", "20", *"000000"], ["all", "60", *"000000"],
    ]  # fmt: skip
    first, second = (torture("--case=image/3/7", f"--inputs={place}") for place in (tmp_path, tmp_path / "anew"))
    assert first == second
    assert re.fullmatch(r"image/3/7: tried [0-9a-f]{12}: .+", first[0])
    assert torture("--case=image/3/8", f"--inputs={tmp_path}")[0].split()[2] != first[0].split()[2]


@pytest.mark.slow
def test_the_torture_finds_a_fault_and_says_how_to_repeat_it(tmp_path):
    # Python imports this module first, in every process: here, a decoder that crashes or fails on some files.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom retrain.data import decoding\ndef decode(data, **size):\n"
        "    return os.abort() if len(data) % 5 == 0 else data[2**40] if len(data) % 5 == 1 else right(data, **size)\n"
        "right, decoding.decode = decoding.decode, decode\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    words = ["--only=image", "--counts=image=25", "--minutes=5", f"--inputs={tmp_path / 'inputs'}"]
    *faults, _, row, _ = torture(*words, code=1, env=env)
    _, tried, tracebacks, crashes, *others = row.split()
    assert (tried, others) == ("25", list("0000"))
    assert int(tracebacks)
    assert int(crashes)
    assert len(faults) == 2 * (int(tracebacks) + int(crashes))
    again = faults[1].split()
    assert again[:-1] == ["again:", "python", "-m", "scripts.torture", "--case"]
    assert torture("--case", again[-1], words[-1], code=1, env=env)[-1].startswith(f"{again[-1]}: ")


@pytest.mark.slow
def test_the_torture_compares_each_vector_after_a_kill_with_that_of_an_undisturbed_run(tmp_path):
    case = ["--case=kill/0/16", f"--inputs={tmp_path}"]  # killed with nothing there before
    # On a fast machine it has ended before.
    assert re.fullmatch(r"kill/0/16: tried head: head, SIGKILL: exit code (-9|0)", *torture(*case))
    (index,) = tmp_path.glob("clean/head/new/bottlenecks/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(index)) as opened:
        key, row = opened.execute("SELECT key, row FROM vectors").fetchone()
    with Store(index.parent, dimension=512) as store:
        vector = store.read(np.array([row]))[0] + np.float32(1e-3)
        store.forget(np.array([row]))
        store.put(tmp_path, [Entry("photo", Stamp(1, 1, 1), key, vector)])
    assert torture(*case, code=1)[1:] == ["kill/0/16: wrong vectors: 1 of 60"]
