import os

import pytest

import retrain
from retrain.trust import verdicts


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "retrain" / "judged"


def test_a_verdict_belongs_to_a_content_a_purpose_and_a_version(cache, monkeypatch):
    verdicts.remember("aa", "label")
    verdicts.remember("bb", "label", "crashes")
    assert (verdicts.recall("aa", "label"), verdicts.recall("bb", "label")) == ("", "crashes")
    assert verdicts.recall("aa", "read") is verdicts.recall("cc", "label") is None
    monkeypatch.setattr(verdicts, "__version__", retrain.__version__ + ".1")
    assert verdicts.recall("aa", "label") is None


def test_another_runtime_judges_anew(cache, tmp_path, monkeypatch):
    verdicts.remember("aa", "label")
    (tmp_path / "packages" / "onnxruntime-99.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert verdicts.recall("aa", "label") is None


@pytest.mark.parametrize("place", ["", "relative"])
def test_a_user_without_a_cache_folder_has_the_usual_one(tmp_path, monkeypatch, place):
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.setenv("HOME", str(tmp_path))
    verdicts.remember("aa", "label")
    assert len(list((tmp_path / ".cache" / "retrain" / "judged").iterdir())) == 1


def test_where_nothing_can_be_kept_nothing_is_remembered(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    verdicts.remember("aa", "label")
    assert verdicts.recall("aa", "label") is None


def test_the_oldest_verdicts_go_first(cache, monkeypatch):
    monkeypatch.setattr(verdicts, "_KEPT", 10)
    for number in range(11):
        verdicts.remember(str(number), "label")
        for file in cache.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))
    assert [verdicts.recall(str(number), "label") for number in (0, 5, 6, 10)] == [None, None, "", ""]
