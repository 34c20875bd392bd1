"""The agents run in environments of their own and are no modules of the tests."""

from __future__ import annotations

collect_ignore_glob = ["agents/*", "loaders/*", "env-*"]
