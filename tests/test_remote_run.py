"""Commands on photos in a bucket: the same results as on the same tree here, and no secret in any of them."""

import json
import shutil

import pytest
from conftest import colour_folder, command
from servers import busy_server
from test_second_run import retrain

SECRETS = ("tester", "a secret of nobody")
FLAGS = ["--bottleneck_tensor=mean_colour", "--how_many_training_steps=40", "--time_limit=10m"]


@pytest.fixture
def photos(tmp_path):
    folder = colour_folder(tmp_path / "photos", 12)
    (folder / "cyan" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


def results(folder):
    names = ("graph.pb", "graph.tflite", "labels.txt", "graph.report.json")
    return {name: (folder / "tf_files" / f"retrained_{name}").read_bytes() for name in names}


@pytest.mark.slow
def test_a_run_gives_what_the_same_tree_here_gives(bucket, photos, tmp_path, mean_colour_backbone):
    url, flags = bucket.upload(photos, "photos"), [f"--architecture={mean_colour_backbone}", *FLAGS]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    distorted = ["--flip_left_right", "--random_brightness=20"]
    retrain(here, "--image_dir", photos, *flags, *distorted)
    said = retrain(there, "--image_dir", url, *flags, *distorted)
    assert results(there) == results(here)
    assert f"classes in {url}:" in said
    assert "1 file skipped" in said
    read = len(bucket.reads())
    assert len(set(bucket.reads())) == 37
    (there / "tf_files" / "retrained_graph.pb").unlink()
    retrain(there, url, *flags, *distorted, blocked=True)  # no TensorFlow either
    # One photo of each class, for the sheet of distorted copies on TensorBoard.
    assert sorted(key.split("/")[1] for key in bucket.reads()[read:]) == ["cyan", "magenta", "yellow"]
    assert results(there) == results(here)
    record = json.loads(next((there / "tf_files").rglob("run.json")).read_text())
    assert record["image_dir"] == url
    written = [path for path in there.rglob("*") if path.is_file()]
    assert not [path for path in written if any(secret.encode() in path.read_bytes() for secret in SECRETS)]

    bucket.put("photos/cyan/0.png", (photos / "cyan" / "1.png").read_bytes())
    bucket.delete("photos/cyan/2.png")
    read = len(bucket.reads())
    command("retrain", url, *flags, "--random_seed=1", "--folds=0", cwd=there)
    assert len(bucket.reads()) > read
    assert "photos/cyan/0.png" in bucket.reads()[read:]
    assert "photos/cyan/2.png" not in bucket.reads()[read:]


@pytest.mark.slow
def test_a_model_is_used_on_photos_in_a_bucket(bucket, photos, tmp_path, mean_colour_backbone):
    url = bucket.upload(photos, "photos")
    retrain(tmp_path, "--image_dir", photos, f"--architecture={mean_colour_backbone}", *FLAGS)
    graph = tmp_path / "tf_files" / "retrained_graph.pb"

    def same(*words, local, remote, code=0):
        here = command(*words, *local, cwd=tmp_path, code=code)
        there = command(*words, *remote, cwd=tmp_path, code=code)
        assert there.stdout == here.stdout.replace(str(photos), url)
        return there

    model = ["label_image", "--csv", "--graph", graph]
    same(*model, local=[photos / "cyan" / "1.png"], remote=[f"{url}/cyan/1.png"])
    broken = same(*model, local=[photos], remote=[url], code=1)
    assert f"{url}/cyan/broken.png: damaged" in broken.stderr
    same("evaluate", "--graph", graph, "--image_dir", local=[photos], remote=[url])
    gone = command(*model, f"{url}/gone.png", cwd=tmp_path, code=1)
    assert f"{url}/gone.png: No such file or directory" in gone.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["retrain", "URL", "--output_graph", "s3://b/g.pb"], 2, "results stay local"),
        (["retrain", "URL", "--summaries_dir", "s3://b/logs"], 2, "results stay local"),
        (["retrain", "URL", "--bottleneck_dir", "http://b/cache"], 2, "no protocol of folders"),
        (["retrain", "URL?X-Amz-Signature=hunter2"], 2, "has a query"),
        (["retrain", "--image_dir", "sftp://me:hunter2@host/photos"], 2, "has a password"),
        (["retrain", "https://host/photos"], 2, "no protocol of folders"),
        (["retrain", "s3://no-such-bucket-of-ours"], 1, "no such image folder"),
        (["label_image", "s3://me:hunter2@bucket/a.jpg"], 2, "has a password"),
        (["evaluate", "--image_dir", "sftp://me:hunter2@host/photos"], 2, "has a password"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(bucket, tmp_path, words, code, said):
    done = command(*(word.replace("URL", bucket.url) for word in words), cwd=tmp_path, code=code)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hunter2" not in done.stderr


@pytest.mark.slow
def test_a_busy_storage_is_waited_for_and_the_second_run_reads_no_image(
    bucket, s3_server, photos, tmp_path, mean_colour_backbone
):
    url = bucket.upload(photos, "photos")
    flags = ["--image_dir", url, f"--architecture={mean_colour_backbone}", *FLAGS]
    with busy_server(s3_server.endpoint) as server:
        server.busy = 3
        retrain(tmp_path, *flags, environment={"AWS_ENDPOINT_URL": server.endpoint})
        assert server.turned_away == 3
    read = len(bucket.reads())
    retrain(tmp_path, *flags, blocked=True)
    assert len(bucket.reads()) == read
    shutil.rmtree(tmp_path / "tf_files")
    failed = command("retrain", *flags, cwd=tmp_path, code=1, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert failed.stderr.strip().splitlines()[-1].startswith(f"retrain: {url}: the server does not answer")
