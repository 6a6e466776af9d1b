"""A look at photos in a bucket, which shards compute: what it finds is what a look at the same tree here finds."""

import json

import numpy as np
import pytest
from builders import terminal
from PIL import Image

from retrain import checking
from retrain.bottlenecks.cluster import shards
from retrain.config import RetrainConfig
from retrain.storage.folders import folder

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path):
    """Twelve photos of each of two classes: one is nearly black, a name has signs of addresses, one is broken."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
            path = tmp_path / "photos" / name / f"{number}.png"
            coarse.resize((24, 24), Image.Resampling.NEAREST).save(path)
    Image.new("RGB", (24, 24), (9, 2, 4)).save(tmp_path / "photos" / "a" / "50% of #1?.png")
    (tmp_path / "photos" / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path / "photos"


@pytest.fixture
def look(tmp_path, mean_colour_backbone, monkeypatch):
    """Return a function that looks at the photos in a folder, in a folder of its own, and returns what it writes."""
    monkeypatch.setattr(shards, "PHOTOS", 6)

    def look(image_dir, name, **settings):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        written = checking.Written(tmp_path / name / "check_images.html")
        network = {"architecture": str(mean_colour_backbone), "bottleneck_tensor": "mean_colour"}
        checking.check(RetrainConfig(image_dir, **network, **settings), written, "--page", terminal()[0])
        return json.loads(written.figures.read_bytes())["findings"], written.page.read_text()

    return look


@pytest.mark.parametrize("in_shards", [False, True])
def test_photos_in_a_bucket_have_the_findings_of_those_here_and_a_second_look_reads_none(
    in_shards, bucket, photos, look
):
    url = folder(bucket.upload(photos, "photos"))
    settings = {"bottleneck_dir": folder(f"{bucket.url}/parts")} if in_shards else {}
    here, _ = look(photos, "here")
    poor = [finding["photos"] for finding in here if finding["kind"] == "quality"]
    assert sorted(poor) == [["a/50% of #1?.png"], ["b/broken.png"]]
    there, page = look(url, "there", **settings)
    assert there == here
    assert f'href="{url}/a/50%25%20of%20%231%3F.png"' in page
    assert page.count("data:image/jpeg") >= 1
    read = len(bucket.reads())
    assert look(url, "there", **settings) == (there, page)
    again = [key for key in bucket.reads()[read:] if key.startswith("photos/")]
    assert set(again) <= {"photos/b/broken.png"}
