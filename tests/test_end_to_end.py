"""The whole commands, in fresh processes, on real files."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import rows_of
from conftest import COLOURS, ROOT, colour_folder, command, photo, write_graph
from PIL import Image

from retrain.config import RetrainConfig
from retrain.formats.litert.model import belongs_to

FAST = ["--how_many_training_steps", "60", "--eval_step_interval", "20"]


def colour_run(cwd, backbone, *more, code=0, image_dir="photos"):
    return command(
        "retrain", "--image_dir", image_dir, "--architecture", backbone, "--bottleneck_tensor", "mean_colour",
        *FAST, *more, cwd=cwd, code=code,
    )  # fmt: skip


def started(cwd, backbone, *more):
    """Start a run on photos/ that goes on beside this process."""
    words = ["--image_dir=photos", f"--architecture={backbone}", "--bottleneck_tensor=mean_colour", *more]
    script, pipe = Path(sys.executable).with_name("retrain"), subprocess.PIPE
    return subprocess.Popen([script, *words], cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def computed(done):
    counts = re.search(r"^Features for .*: (?:(\d+) computed|all from the cache)", done.stdout, re.MULTILINE)
    return int(counts[1] or 0)


def final(done):
    return float(re.search(r"Final test accuracy = ([\d.]+)%", done.stdout)[1])


def test_colours_are_learnt_exported_and_named(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=30)
    done = colour_run(tmp_path, mean_colour_backbone)
    assert "Bottlenecks: 90/90" in done.stderr
    assert final(done) == 100.0
    assert re.search(r"Step 0: Train accuracy = \d+\.\d%\nStep 0: Cross entropy = \d+\.\d{6}\n", done.stdout)
    assert "Step 59: Validation accuracy" in done.stdout
    for name, colour in COLOURS.items():
        picture = photo(tmp_path / f"new_{name}.jpg", colour, size=(50, 40), seed=77)
        shown = command("label_image", picture, cwd=tmp_path)
        assert shown.stdout.splitlines()[3].startswith(f"{name} (score=0.")
        assert shown.stderr == ""
    assert (tmp_path / "tf_files" / "retrained_labels.txt").read_text().split() == sorted(COLOURS)


@pytest.mark.slow
def test_the_second_run_computes_and_reads_nothing_and_writes_the_same_bytes(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos")
    first = colour_run(tmp_path, mean_colour_backbone)
    graph, figures = (tmp_path / "tf_files" / f"retrained_graph{end}" for end in (".pb", ".report.json"))
    before = graph.read_bytes(), figures.read_bytes()
    # Contents that would be noticed if they were read; size and times are what the store goes by.
    second = colour_run(tmp_path, mean_colour_backbone)
    assert (computed(first), computed(second)) == (60, 0)
    assert "Bottlenecks:" not in second.stderr
    assert (graph.read_bytes(), figures.read_bytes()) == before
    elsewhere = colour_run(tmp_path, mean_colour_backbone, "--bottleneck_dir", "other", "--output_graph", "other/g.pb")
    assert computed(elsewhere) == 60
    assert (tmp_path / "other" / "g.pb").read_bytes() == before[0]


@pytest.mark.slow
def test_wide_and_tall_photos_are_told_apart_where_the_aspect_ratio_is_kept(tmp_path):
    """Of one colour, squashed they are the same; the grey bars of a letterbox show which is which."""
    backbone = write_graph(
        tmp_path / "thumbnail.pb",
        lambda tf, image: tf.reshape(tf.nn.avg_pool2d(image, 4, 4, "VALID"), [-1, 48], name="mean_colour"),
    )
    for number in range(40):
        for name, size in (("wide", (30, 10)), ("tall", (10, 30))):
            photo(tmp_path / "photos" / name / f"{number}.png", (200, 30, 30), size, seed=number)
    assert final(colour_run(tmp_path, backbone)) < 80
    letterbox = ["--keep_aspect_ratio=letterbox", "--flip_left_right"]  # the copies are letterboxed, too
    done = colour_run(tmp_path, backbone, *letterbox)
    assert final(done) == 100.0
    assert computed(done) > 80  # the features of squashed photos are others
    assert computed(colour_run(tmp_path, backbone, *letterbox)) == 0
    report = json.loads((tmp_path / "tf_files" / "retrained_graph.report.json").read_text())
    assert report["settings"]["keep_aspect_ratio"] == "letterbox"
    assert "Accuracy: 1 (N=" in command("evaluate", "--image_dir=photos", cwd=tmp_path).stdout


@pytest.mark.slow
def test_8_bit_features_make_an_8_bit_classifier_and_all_files_are_measured(tmp_path):
    colour_folder(tmp_path / "photos")
    arguments = ["--image_dir", "photos", "--image_size", "64", "--architecture", "mobilenet_bundled", *FAST]
    arguments += ["--precision", "int8", "--export", "tflite_int8"]
    first = command("retrain", *arguments, cwd=tmp_path)
    assert "Making the 8-bit form of mobilenet_bundled from drawn images, once.\n" in first.stdout
    assert (computed(first), final(first)) == (60, 100.0)
    report = json.loads((tmp_path / "tf_files" / "retrained_graph.report.json").read_text())
    assert [(row["name"], row["accuracy"]) for row in report["exports"]] == [
        ("frozen graph", 1.0),
        ("tflite_int8", 1.0),
    ]
    written = [tmp_path / "tf_files" / f"retrained_graph{ending}" for ending in (".pb", ".tflite", "_int8.tflite")]
    content = [path.read_bytes() for path in written]
    second = command("retrain", *arguments, cwd=tmp_path)
    assert computed(second) == 0
    assert "Bottlenecks" not in second.stderr + second.stdout
    assert "Making" not in second.stdout
    assert [path.read_bytes() for path in written] == content
    shown = command("label_image", "--graph", written[2], "photos/cyan/1.png", cwd=tmp_path)
    assert "cyan (score=" in shown.stdout.splitlines()[3]


@pytest.mark.slow
def test_bad_files_are_named_skipped_and_counted(tmp_path, mean_colour_backbone):
    folder = colour_folder(tmp_path / "photos")
    (folder / "cyan" / "empty.jpg").write_bytes(b"")
    (folder / "cyan" / "two\nlines \"quoted\" 'name'.jpg").write_bytes(b"no image")
    (folder / os.fsdecode(b"cyan/\xff\xfe.jpg")).write_bytes(b"no image")
    (folder / "magenta" / "cut.jpg").write_bytes(photo(tmp_path / "x.jpg", (1, 2, 3), (300, 300)).read_bytes()[:2000])
    for name in ("желтый лист.png", "it's.png", 'a "b".png', "line\nbreak.png"):
        photo(folder / "yellow" / name, COLOURS["yellow"], seed=5)
    done = colour_run(tmp_path, mean_colour_backbone)
    assert done.stderr.count("Skipped ") == 4
    assert "Skipped cyan/empty.jpg: empty file" in done.stderr
    assert r"Skipped cyan/two\nlines" in done.stderr
    assert "; 4 files skipped." in done.stdout
    again = colour_run(tmp_path, mean_colour_backbone)
    assert computed(again) == 0
    assert again.stderr.count("Skipped ") == 4


@pytest.mark.slow
def test_a_class_without_a_readable_image_ends_the_run_in_one_line(tmp_path, mean_colour_backbone):
    folder = colour_folder(tmp_path / "photos", per_class=3)
    for number in range(5):
        (folder / "webps").mkdir(exist_ok=True)
        (folder / "webps" / f"{number}.webp").write_bytes(b"RIFF\0\0\0\0WEBPdamaged")
    done = colour_run(tmp_path, mean_colour_backbone, code=1)
    last = done.stderr.strip().splitlines()[-1]
    assert "class 'webps'" in last
    assert "no readable image (5 files could not be read" in last


@pytest.mark.slow
def test_three_images_in_each_of_two_classes_train(tmp_path, mean_colour_backbone):
    for name in ("cyan", "yellow"):
        for number in range(3):
            photo(tmp_path / "photos" / name / f"{number}.png", COLOURS[name], seed=number)
    done = colour_run(tmp_path, mean_colour_backbone)
    assert "Fewer than 20 images" in done.stderr
    assert "Final test accuracy" in done.stdout
    picture = photo(tmp_path / "new.png", COLOURS["yellow"], seed=9)
    assert "yellow (score=0." in command("label_image", picture, cwd=tmp_path).stdout.splitlines()[3]


@pytest.mark.slow
def test_a_training_that_diverges_says_so(tmp_path, mean_colour_backbone):
    for name in ("a", "b"):  # nothing tells them apart, so that every step overshoots
        for number in range(20):
            photo(tmp_path / "photos" / name / f"{number}.png", (99, 99, 99), seed=number + 50 * (name == "b"))
    done = colour_run(tmp_path, mean_colour_backbone, "--learning_rate", "1e38", code=1)
    assert "Try a smaller --learning_rate" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_labels_may_be_any_folder_name(tmp_path, mean_colour_backbone):
    names = dict(zip(["Тюльпан", 'a "b" c', "two\nlines"], COLOURS.values(), strict=True))
    for name, colour in names.items():
        for number in range(20):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    colour_run(tmp_path, mean_colour_backbone)
    for name, colour in names.items():
        picture = photo(tmp_path / "new.png", colour, seed=99)
        answer = json.loads(command("label_image", "--json", picture, cwd=tmp_path).stdout)
        assert answer["labels"][0]["label"] == name
        assert answer["image"] == str(picture)


@pytest.mark.slow
def test_many_images_give_a_block_each_and_one_failure_gives_exit_code_1(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos")
    colour_run(tmp_path, mean_colour_backbone)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no")
    done = command("label_image", "photos", cwd=tmp_path, code=1)
    assert done.stdout.count("score=") == 60 * 3
    said = done.stderr.splitlines()
    assert said[0] == "label_image: photos/bad.jpg: not a JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC or AVIF image"
    assert [line.split(" (")[0] for line in said[1:]] == ["Labelling: 61/61"]
    lines = command("label_image", "--json", "photos", cwd=tmp_path, code=1).stdout.splitlines()
    assert [json.loads(line)["image"] for line in lines] == sorted(
        str(path.relative_to(tmp_path)) for path in (tmp_path / "photos").rglob("*.*")
    )


@pytest.mark.slow
def test_a_killed_run_loses_at_most_the_images_in_flight(tmp_path, mean_colour_backbone):
    folder = tmp_path / "photos"
    for name, colour in COLOURS.items():
        for number in range(150):
            photo(folder / name / f"{number}.png", colour, size=(300, 300), seed=number)
    with started(tmp_path, mean_colour_backbone) as running:
        while (stored := rows_in_store(tmp_path)) < 50 and running.poll() is None:
            pass
        running.send_signal(signal.SIGKILL)
    assert stored >= 50
    done = colour_run(tmp_path, mean_colour_backbone)
    assert computed(done) <= 450 - stored
    assert final(done) == 100.0


def rows_in_store(folder):
    for index in folder.glob("tf_files/bottlenecks/*/index.sqlite"):
        try:
            with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as connection:
                return connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0
        finally:
            connection.close()
    return 0


@pytest.mark.slow
def test_two_runs_at_once_on_one_store_are_both_right(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=60)
    runs = [
        started(
            tmp_path, mean_colour_backbone, *FAST, f"--output_graph={i}/g.pb", f"--output_labels={i}/l.txt",
            f"--summaries_dir={i}/s",
        )
        for i in range(2)
    ]  # fmt: skip
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert (tmp_path / "0" / "g.pb").read_bytes() == (tmp_path / "1" / "g.pb").read_bytes()
    assert all("Final test accuracy = 100.0%" in out for out, _ in outputs)


@pytest.mark.slow
def test_runs_at_once_on_one_graph_leave_files_that_belong_together(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=6)
    runs = [
        started(
            tmp_path, mean_colour_backbone, *FAST, f"--learning_rate={rate}", f"--checkpoint_path=c/{rate}",
            "--export=tflite_fp16",
        )
        for rate in (0.001, 0.01, 0.1)
    ]  # fmt: skip
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    folder = tmp_path / "tf_files"
    assert belongs_to(folder / "retrained_graph.tflite", folder / "retrained_graph.pb")
    other = not belongs_to(folder / "retrained_graph_fp16.tflite", folder / "retrained_graph.pb")
    assert not other or any("Another run wrote" in errors for _, errors in said)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.mark.slow
def test_exports_of_an_earlier_training_are_said(tmp_path, mean_colour_backbone):
    folder = colour_folder(tmp_path / "photos", per_class=6)
    first = colour_run(tmp_path, mean_colour_backbone, "--export=keras,tflite_fp16")
    again = colour_run(tmp_path, mean_colour_backbone)  # the same graph, to the byte
    for done in (first, again):
        assert "earlier training" not in done.stderr
    (folder / "cyan").rename(folder / "turquoise")
    done = colour_run(tmp_path, mean_colour_backbone)
    (line,) = [line for line in done.stderr.splitlines() if "earlier training" in line]
    assert "tf_files/retrained_graph_fp16.tflite, tf_files/retrained_graph.keras" in line


@pytest.mark.slow
def test_a_run_that_is_terminated_ends_in_one_line_and_leaves_nothing_half(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=6)
    long = ("--how_many_training_steps=2000000", "--train_batch_size=2")
    with started(tmp_path, mean_colour_backbone, *long) as running:
        while "Step 0" not in running.stdout.readline():
            pass
        running.terminate()
        running.stdout.read()
        said = running.stderr.read()
    assert running.returncode == 143
    assert said.splitlines()[-1].startswith("retrain: terminated. Finished work is kept")
    assert "Traceback" not in said
    assert not [path for path in (tmp_path / "tf_files").glob("*") if path.is_file()]


CODELAB = """python -m scripts.retrain --bottleneck_dir=tf_files/bottlenecks --how_many_training_steps=500
    --model_dir={data}/models/ --summaries_dir=tf_files/training_summaries/mobilenet_0.25_224
    --output_graph=tf_files/retrained_graph.pb --output_labels=tf_files/retrained_labels.txt
    --architecture=mobilenet_0.25_224 --image_dir={data}/datasets/flowers_1100"""


def scores_in(lines):
    found = (re.fullmatch(r"(\w+) \(score=([01]\.\d{5})\)", line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


@pytest.mark.slow
def test_the_codelabs_own_commands_work_on_its_flowers(codelab_data, tmp_path):
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    done = command(*CODELAB.format(data=codelab_data).split(), cwd=tmp_path)
    assert final(done) >= (
        100 if codelab_data.name.startswith("synthetic") else 80.2
    )  # the original's on its own split
    daisy = next((codelab_data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))
    shown = command(
        "python", "-m", "scripts.label_image", "--graph=tf_files/retrained_graph.pb", f"--image={daisy}", cwd=tmp_path
    ).stdout.splitlines()
    assert shown[1].startswith("Evaluation time (1-image): ")
    scores = scores_in(shown)
    assert len(scores) == 5
    for old in ("--input_height=224", "--input_mean=127.5", "--input_std=127.5", "--input_layer=input"):
        again = command("label_image", old, daisy, cwd=tmp_path).stdout.splitlines()
        assert scores_in(again) == pytest.approx(scores, abs=1.1e-5)  # two engines may round to either side


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "steps", "rival"),
    [("mobilenet_0.25_128", "flowers_1100", 1000, 81.1), ("mobilenet_0.25_224", "flowers_1100", 1000, 80.2)],
)
def test_accuracy_is_at_least_the_originals_over_five_seeds(data, tmp_path, name, images, steps, rival):
    from retrain.pipeline import retrain

    accuracies = [
        retrain(
            RetrainConfig(
                image_dir=data / "datasets" / images,
                output_graph=tmp_path / "g.pb",
                output_labels=tmp_path / "l.txt",
                summaries_dir=tmp_path / "s",
                bottleneck_dir=tmp_path / "b",
                model_dir=data / "models",
                architecture=name,
                how_many_training_steps=steps,
                random_seed=seed,
            )
        ).test_accuracy
        for seed in range(5)
    ]
    assert np.mean(accuracies) * 100 >= rival


@pytest.mark.slow
def test_a_graph_that_fails_its_check_does_not_take_the_last_ones_place(tmp_path):
    noisy = write_graph(  # no two runs of it give the same
        tmp_path / "noisy.pb",
        lambda tf, image: tf.add(tf.reduce_mean(image, [1, 2]), tf.random.uniform([3]), name="mean_colour"),
    )
    colour_folder(tmp_path / "photos")
    graph = tmp_path / "tf_files" / "retrained_graph.pb"
    graph.parent.mkdir()
    shutil.copy(noisy, graph)
    done = colour_run(tmp_path, noisy, code=1)
    assert re.search(r"gives bottlenecks that differ by [\d.]+ from those of the trained network", done.stderr)
    assert graph.read_bytes() == noisy.read_bytes()
    assert not [path for path in graph.parent.iterdir() if path.name.startswith(".") or path.suffix == ".tflite"]


@pytest.mark.slow
def test_santa_in_one_folder_reaches_the_originals_accuracy(data, tmp_path):
    from retrain.pipeline import retrain

    for source in (data / "datasets" / "santa").rglob("*.jpg"):
        part, label, name = source.parts[-3:]
        target = tmp_path / "santa" / label / f"{part}_{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    report = retrain(
        RetrainConfig(
            image_dir=tmp_path / "santa",
            output_graph=tmp_path / "g.pb",
            output_labels=tmp_path / "l.txt",
            summaries_dir=tmp_path / "s",
            bottleneck_dir=tmp_path / "b",
            model_dir=data / "models",
            architecture="mobilenet_0.25_128",
            how_many_training_steps=500,
        )
    )
    assert sum(map(sum, report.counts)) == 921
    assert report.test_accuracy * 100 >= 96.6


@pytest.mark.slow
def test_the_bundled_backbone_learns_the_sample_photos(tmp_path):
    command("python", ROOT / "scripts" / "make_sample_photos.py", "--image_dir=photos", "--per_class=12", cwd=tmp_path)
    sizes = []
    for path in (tmp_path / "photos").rglob("*.jpg"):
        with Image.open(path) as opened:
            sizes.append(opened.size)
    assert len(sizes) == 60
    assert all(320 <= side <= 640 for size in sizes for side in size)
    words = ["--image_dir=photos", "--architecture=mobilenet_bundled", "--how_many_training_steps=100"]
    done = command("retrain", *words, cwd=tmp_path)
    assert [
        line
        for line in done.stderr.splitlines()
        if not line.startswith(("Fewer", "No ", "Bottlenecks", "Cross-validation"))
    ] == []
    answers = command("label_image", "--json", "photos", cwd=tmp_path).stdout.splitlines()
    right = [json.loads(line)["labels"][0]["label"] in json.loads(line)["image"].split("/")[1] for line in answers]
    # Five classes, nine of ten photos trained on: far from the fifth that a guess would get.
    assert np.mean(right) > 0.6


@pytest.mark.slow
def test_the_default_network_is_tuned_and_exported(tmp_path):
    colour_folder(tmp_path / "photos")
    done = command(
        "retrain", "--image_dir=photos", "--image_size=32", "--how_many_training_steps=20", "--fine_tune_from=block7a",
        "--fine_tune_steps=5", "--export=tflite_int8,keras,onnx", cwd=tmp_path,
    )  # fmt: skip
    assert "Fine-tuning efficientnet_lite0 from layer block7a_expand_conv on" in done.stdout
    accuracies = {row[0]: row[4] for row in rows_of(done)}  # each was compared with the graph
    assert accuracies == dict.fromkeys(("frozen graph", "tflite_int8", "keras", "onnx"), "100.0%")
