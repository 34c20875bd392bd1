"""What the README says of the clients is what their test holds them to."""

from __future__ import annotations

from tests.clients.senders import table
from tests.support.common import REPOSITORY


def test_the_readme_says_what_each_client_leaves_out() -> None:
    assert table() in (REPOSITORY / "README.md").read_text()
