import io

from retrain.bottlenecks.preparation import _warn_of_rejected
from retrain.terminal import Terminal


def test_many_skipped_images_are_named_up_to_ten():
    err = io.StringIO()
    _warn_of_rejected({f"{i}.jpg": "empty file" for i in range(25)}, Terminal(out=io.StringIO(), err=err))
    lines = err.getvalue().splitlines()
    assert len(lines) == 11
    assert "15 more" in lines[-1]
