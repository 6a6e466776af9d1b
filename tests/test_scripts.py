import re
import shutil

import numpy as np
import pytest
from conftest import ROOT, colour_folder, command

SAMPLES = ROOT / "scripts" / "make_sample_photos.py"


@pytest.mark.parametrize("teacher", ["logits", "features"])
def test_a_backbone_can_be_pretrained_and_used(tmp_path, data, teacher):
    colour_folder(tmp_path / "photos", per_class=6)
    words = {
        "logits": [
            "--teacher=mobilenet_0.25_128",
            "--logits=MobilenetV1/Predictions/Reshape",
            f"--model_dir={data}/models",
        ],
        "features": ["--teacher=mobilenet_bundled"],
    }[teacher]
    done = command(
        "python", "-m", "scripts.pretrain_backbone", f"--image_dir={tmp_path}/photos", f"--output={tmp_path}/new.npz",
        "--alpha=0.25", "--crops=2", "--steps=9", "--batch_size=8", *words, cwd=ROOT,
    )  # fmt: skip
    losses = [float(loss) for loss in re.findall(r"loss = ([\d.]+)", done.stdout)]
    assert losses[-1] < losses[0]
    with np.load(tmp_path / "new.npz") as arrays, np.load(ROOT / "src/retrain/data/mobilenet_bundled.npz") as bundled:
        assert set(arrays) == set(bundled)
        assert {name: array.dtype for name, array in arrays.items()} == {n: a.dtype for n, a in bundled.items()}
        assert arrays["conv1/kernel"].shape == (3, 3, 3, 8)
    trained = command(
        "retrain", "--image_dir=photos", "--weights=new.npz", "--how_many_training_steps=20", cwd=tmp_path
    )
    assert "18 computed now" in trained.stdout


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


def test_make_help_lists_every_target():
    shown = command("make", "--no-print-directory", "help", cwd=ROOT, env={"MAKEFLAGS": ""}).stdout
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[0].split()
    assert [line.split()[1] for line in shown.splitlines()] == targets


def test_an_old_python_is_said_in_one_line(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    done = command("make", "setup", "PYTHON=false", cwd=tmp_path, code=2)
    assert "Python 3.11 or newer is needed" in done.stderr


def test_label_without_an_image_says_how(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".venv").mkdir()
    for stamp in ("python", "installed"):
        (tmp_path / ".venv" / stamp).touch()
    assert "make label IMAGE=photo.jpg" in command("make", "label", cwd=tmp_path, code=2).stderr


def test_the_benchmarks_rival_computes_what_the_original_did(tmp_path, data):
    from scripts import rival

    from retrain import architectures
    from retrain.backbone import load_backbone, locate
    from retrain.engine import TensorFlowRunner
    from retrain.image import decode

    recipe = locate(architectures.find("mobilenet_0.25_128"), model_dir=data / "models")
    frozen = load_backbone(recipe, tmp_path)
    theirs = rival.Bottlenecks(frozen.graph, source=frozen.source, target=frozen.target, size=128)
    ours = TensorFlowRunner(frozen.graph, source=frozen.source, target=frozen.target, mean=frozen.mean, std=frozen.std)
    photos = sorted((data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))[:8]
    files = rival.fill(photos, theirs, tmp_path / "text")
    for photo, file in zip(photos, files, strict=True):
        vector = np.array([float(value) for value in file.read_text().split(",")])
        own = ours(decode(photo.read_bytes(), height=128, width=128)[None])[0]
        # The same network on the same photo; only the resizing differs, with antialiasing and without.
        assert np.corrcoef(vector, own)[0, 1] > 0.8
    rival.train(files, [0, 1] * 4, steps=11, summaries=tmp_path / "summaries", held_out=4)
    assert len(list((tmp_path / "summaries").rglob("events.out.tfevents.*"))) == 2
