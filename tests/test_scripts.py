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
