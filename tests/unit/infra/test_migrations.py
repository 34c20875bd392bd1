"""Migration files: statements, and what must hold for all that are shipped."""

from __future__ import annotations

import re

from infra.schema.migrate import Migration, shipped


def test_statements_are_split_at_eight_dashes_and_comments_dropped() -> None:
    text = (
        "-- about\nCREATE TABLE a (x String -- y\n)\n--------\n-- only a comment\n"
        "--------  \nDROP TABLE b\n"
    )
    assert Migration("0001_x", text).statements == [
        "-- about\nCREATE TABLE a (x String -- y\n)",
        "DROP TABLE b",
    ]


def test_checksum_follows_the_text() -> None:
    assert Migration("a", "x").checksum != Migration("a", "y").checksum


def test_shipped_migrations_are_numbered_in_order_and_repeatable() -> None:
    migrations = shipped()
    assert migrations
    numbers = [migration.name[:4] for migration in migrations]
    assert numbers == sorted(set(numbers)), "applied in this order, each number once"
    for migration in migrations:
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+", migration.name)
        for statement in migration.statements:
            if re.search(r"^CREATE ", statement, re.MULTILINE):
                repeatable = "IF NOT EXISTS" in statement or "CREATE OR REPLACE" in statement
                assert repeatable, (migration.name, statement[:80])
