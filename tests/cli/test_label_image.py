"""`label_image` on many images, as a command in fresh processes."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import exported, quarters
from conftest import COLOURS, command, photo, write_graph
from PIL import Image

COUNT = 30


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "g.pb")


@pytest.fixture
def photos(tmp_path):
    """Pictures in three colours, two of one name among them, and one that is none."""
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    for number in range(COUNT):
        name = list(colours)[number % 3]
        photo(tmp_path / "photos" / f"batch{number // 10}" / f"{number % 10}.png", colours[name], seed=number)
    (tmp_path / "photos" / "batch1" / "bad.jpg").write_bytes(b"no")
    return tmp_path / "photos"


def expected_order(photos):
    return [str(path.relative_to(photos.parent)) for path in sorted(photos.rglob("*.*"))]


def test_csv_has_a_row_for_each_class_and_the_reason_of_each_failure(graph, photos, tmp_path):
    done = command("label_image", "--graph", graph, "--csv", "--top_k", "2", "photos", cwd=tmp_path, code=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(dict.fromkeys(row["image"] for row in rows)) == expected_order(photos)
    good = [row for row in rows if not row["error"]]
    assert len(good) == 2 * COUNT
    assert [row["rank"] for row in good[:2]] == ["1", "2"]
    assert float(good[0]["score"]) >= float(good[1]["score"])
    (bad,) = [row for row in rows if row["error"]]
    assert (bad["image"], bad["label"]) == ("photos/batch1/bad.jpg", "")
    assert "not a JPEG" in bad["error"]
    assert "Labelling: 31/31" in done.stderr


@pytest.mark.slow
def test_a_list_on_standard_input_is_answered_line_by_line(graph, photos, tmp_path):
    script = Path(sys.executable).with_name("label_image")
    words = [script, "--graph", graph, "--json", "-"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        for name, colour in (("red", "batch0/0.png"), ("green", "batch0/1.png"), ("blue", "batch0/2.png")):
            process.stdin.write(f"photos/{colour}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())  # before the next path is written
            assert (answer["image"], answer["labels"][0]["label"]) == (f"photos/{colour}", name)
        process.stdin.write("https://example.org/a.jpg\n")
        process.stdin.close()
        assert "Download it first" in json.loads(process.stdout.readline())["error"]
    assert process.returncode == 1


@pytest.mark.slow
def test_a_list_may_come_from_find_and_hold_names_of_any_encoding(graph, photos, tmp_path):
    script = Path(sys.executable).with_name("label_image")
    for listed in (b"photos/batch0/0.png\0photos/batch0/1.png\0", b"caf\xe9.png\nphotos/batch0/0.png\n"):
        done = subprocess.run(
            [script, "--graph", graph, "--json", "-"], cwd=tmp_path, input=listed, capture_output=True, check=False
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [list(answer) for answer in answers].count(["image", "labels"]) == (2 if b"\0" in listed else 1)
        assert len(answers) == 2
        assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_closed_standard_input_is_an_empty_list(graph):
    script = Path(sys.executable).with_name("label_image")
    done = subprocess.run(f"{script} --graph {graph} - <&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_csv_holds_no_formulas_and_no_control_characters(graph, tmp_path):
    photo(tmp_path / "=a\x1b[31m.png", COLOURS["cyan"])
    (tmp_path / "+b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    done = command(
        "label_image", "--graph", graph, "--csv", "--top_k=1", "=a\x1b[31m.png", "+b.png", cwd=tmp_path, code=1
    )
    good, bad = csv.DictReader(io.StringIO(done.stdout))
    assert good["image"] == "'=a\\x1b[31m.png"
    assert bad["image"] == "'+b.png"
    assert "damaged or unsupported image" in bad["error"]
    assert "0x" not in bad["error"] + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--link"]])
def test_images_are_sorted_into_folders_of_their_classes_and_again_without_change(graph, photos, tmp_path, more):
    words = ["label_image", "--graph", graph, "--json", "--sort_into", "sorted", *more, "photos"]
    for _ in range(2):
        done = command(*words, cwd=tmp_path, code=1)
        found = sorted(path.relative_to(tmp_path / "sorted") for path in (tmp_path / "sorted").rglob("*.png"))
        assert len(found) == COUNT
        assert {path.parts[0] for path in found} == {"red", "green", "blue"}
        assert done.stderr.splitlines()[-1] == f"label_image: {COUNT} images sorted into sorted"
    originals = {path.read_bytes() for path in photos.rglob("*.png")}
    assert {path.read_bytes() for path in (tmp_path / "sorted").rglob("*.png")} == originals


def test_views_are_one_or_two(graph, tmp_path):
    done = command("label_image", "--graph", graph, "--views", "3", "photo.png", cwd=tmp_path, code=2)
    assert len(done.stderr.splitlines()) == 1
    assert "--views: invalid choice: 3 (choose from 1, 2)" in done.stderr


@pytest.mark.slow
def test_a_folder_of_mirror_images_gets_the_scores_of_the_photos(tmp_path):
    """The model looks at the left half alone."""
    graph = write_graph(
        tmp_path / "g.pb", lambda tf, image: tf.nn.softmax(tf.reduce_mean(image[:, :, :8], [1, 2]), name="final_result")
    )
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    for folder in ("as_taken", "mirrored"):
        (tmp_path / folder).mkdir()
    for number, last in enumerate(("white", "black", "navy", "olive")):
        picture = quarters((16, 16), last)
        picture.save(tmp_path / "as_taken" / f"{number}.png")
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored" / f"{number}.png")
    words = ["--graph", graph, "--labels", "labels.txt", "--input_mean=0", "--input_std=255", "--json"]

    answers = []
    for folder in ("as_taken", "mirrored"):
        done = command("label_image", *words, "--views", "2", folder, cwd=tmp_path)
        answers.append([json.loads(line)["labels"] for line in done.stdout.splitlines()])
    assert answers[0] == answers[1]
    assert len(answers[0]) == 4
    for name in ("red", "blue"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        quarters((16, 16)).save(tmp_path / "photos" / name / "1.png")
    more = ["--image_dir=photos", "--split=all", "--views=2", "--predictions=said.csv"]
    assert json.loads(command("evaluate", *words, *more, cwd=tmp_path).stdout)["views"] == 2
    for row in csv.DictReader((tmp_path / "said.csv").read_text().splitlines()):
        assert all(float(row[each["label"]]) == each["score"] for each in answers[0][0])


@pytest.mark.slow
def test_classes_below_the_least_score_are_left_out(graph, tmp_path):
    photo(tmp_path / "sure.png", (255, 0, 0))
    photo(tmp_path / "unsure.png", (128, 128, 128))
    words = ["label_image", "--graph", graph, "--min_score", "0.9", "--sort_into", "out"]
    done = command(*words, "--json", "sure.png", "unsure.png", cwd=tmp_path)
    sure, unsure = (json.loads(line)["labels"] for line in done.stdout.splitlines())
    assert [entry["label"] for entry in sure] == ["red"]
    assert unsure == []
    assert "1 image sorted into out; 1 scored below 0.9 and stayed in place" in done.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["sure.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top_k", "0", "a.png"], "--top_k is 0; it must be at least 1."),
        (["--min_score", "2", "a.png"], "--min_score is 2; it must be 0 to 1."),
        (["--link", "a.png"], "--link goes with --sort_into. Give --sort_into a folder."),
        (["https://x.org/a.jpg"], "https://x.org/a.jpg is a URL, and only files are read. Download it first"),
        (["--json", "--csv", "a.png"], "not allowed with argument"),
        (["--sort_into", "photos/sorted", "photos"], "lies in photos, whose images are labelled"),
        (["--sort_into", "photos/sorted", "--image", "photos"], "lies in photos, whose images are labelled"),
        (["--sort_into", "photos/sorted", "photos/**/*.png"], "lies in photos/**/*.png, whose images are labelled"),
        (["--sort_into", "sorted", "red.png", "s3://nobodys-bucket/x"], "s3://nobodys-bucket/x is remote. Use --csv"),
        (["*.nothing"], "no image files in *.nothing."),
        (["--input_std", "0", "a.png"], "--input_std is 0; pixels are divided by it"),
        (["--input_mean", "nan", "a.png"], "--input_mean is nan; it must be"),
        (["--keep_aspect_ratio", "tile", "a.png"], "--keep_aspect_ratio is 'tile'; it must be one of letterbox, crop."),
        (["--input_height", "0", "a.png"], "--input_height is 0; it must be at least 1"),
        (["--min_score", "nan", "a.png"], "--min_score is nan; it must be 0 to 1."),
        ([], "no image given."),
        (["one", "red.png"], "'one red.png' has a space in its name. Quote it: 'one red.png'"),
        (["a.png", "my", "one", "red.png"], "'one red.png' has a space in its name. Quote it: 'one red.png'"),
        (["--model", "x", "a.png"], "Did you mean --graph? `label_image --help` lists all."),
        (["--threshold", "1", "a.png"], "Did you mean --min_score?"),
        (["--top_k", "many", "a.png"], "--top_k: invalid int value: 'many'. `label_image --help` lists all arguments."),
    ],
)
def test_nonsense_is_answered_in_one_line(graph, photos, tmp_path, words, said):
    photo(tmp_path / "one red.png", (255, 0, 0))
    done = command("label_image", "--graph", graph, *words, cwd=tmp_path, code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--input_layer=299"], "its --input_layer is 'Placeholder', and '299' was given: leave that out. The size of"),
        (["--output_layer=scores"], "its --output_layer is 'final_result', and 'scores' was given: leave that out."),
        (["--input_height=299", "--input_width=299"], "takes images of 16 x 16 px, and --input_height=299 --input_wid"),
        (["--input_width=8"], "takes images of 16 x 16 px, and --input_width=8 was given. Leave that out."),
    ],
)
def test_flags_that_do_not_fit_the_graph_are_answered_with_what_it_takes(graph, tmp_path, words, said):
    photo(tmp_path / "red.png", (255, 0, 0))
    done = command("label_image", "--graph", graph, *words, "red.png", cwd=tmp_path, code=1)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_images_may_stand_on_both_sides_of_a_flag(graph, tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / name, (255, 0, 0))
    done = command("label_image", "--graph", graph, "a.png", "--top_k=1", "b.png", cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if line.endswith(".png")] == ["a.png", "b.png"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["red.png"], ["./red.png"], ["--image=./red.png"]])
def test_one_image_is_answered_as_in_the_codelab(graph, tmp_path, words):
    photo(tmp_path / "red.png", (255, 0, 0))
    done = command("label_image", "--graph", graph, *words, cwd=tmp_path)
    assert done.stdout.startswith("\nEvaluation time (1-image): 0.")
    assert done.stderr == ""


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_the_run_quietly(graph, photos, tmp_path):
    script = Path(sys.executable).with_name("label_image")
    line = f"{script} --graph {graph} --json photos photos photos | head -1"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_names_of_strangers_cannot_write_to_the_terminal(graph, tmp_path):
    photo(tmp_path / "a\x1b[31mb.png", COLOURS["cyan"])
    done = command("label_image", "--graph", graph, ".", cwd=tmp_path)
    assert "\x1b" not in done.stdout
    assert "a\\x1b[31mb.png" in done.stdout
