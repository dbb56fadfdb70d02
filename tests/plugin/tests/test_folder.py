"""``folder:///path`` passes hashring's conformance suite, and tests what is its own."""

import pytest

from hashring.driver import load
from hashring.errors import BadURL, StoreUnavailable
from hashring.testing import DriverSuite


class TestFolder(DriverSuite):
    ttl = 1.0

    @pytest.fixture
    def url(self, tmp_path):
        return f"folder://{tmp_path}/groups"


@pytest.mark.parametrize("url", ["folder://", "folder://host/path"])
def test_a_url_that_is_no_absolute_path_is_refused(url):
    with pytest.raises(BadURL, match="folder:///"):
        load(url)


def test_a_path_that_cannot_be_a_folder_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="open"):
        load(f"folder://{tmp_path}/file").open()
