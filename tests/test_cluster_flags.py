import pytest

from retrain import RetrainConfig, retrain
from retrain.errors import UsageError


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"cluster_min": 1},
            "--cluster_min and --cluster_max are numbers of workers of a cluster. Give --cluster, too",
        ),
        ({"cluster_max": 1}, "Give --cluster, too"),
        ({"cluster": "auto", "cluster_min": 3, "cluster_max": 2}, "--cluster_min 3 is more than --cluster_max 2"),
        ({"cluster": "somewhere"}, "--cluster somewhere: not an address"),
        ({"cluster": "auto", "cluster_max": 0}, "--cluster_max is 0"),
    ],
)
def test_flags_of_a_cluster_that_make_no_sense_are_refused_before_the_work(tmp_path, flags, message):
    with pytest.raises(UsageError, match=message):
        retrain(RetrainConfig(image_dir=tmp_path / "no photos", **flags))
