from datetime import UTC, datetime

import pytest

from retrain.storage import opening


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05.000Z",  # in a listing
        "2026-01-02T03:04:05Z",
        "2026-01-02T04:04:05+01:00",
        "Fri, 02 Jan 2026 03:04:05 GMT",  # in a header
    ],
)
def test_times_of_an_s3_server_are_those_that_its_own_client_reads(text):
    utils = pytest.importorskip("botocore.utils")
    assert opening._s3_time(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) == utils.parse_timestamp(text)
