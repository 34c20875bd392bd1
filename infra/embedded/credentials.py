"""Who may come in to the embedded ClickHouse server."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from infra.embedded.statements import EngineError

READER = "reader"
_AUTHENTICATION_FAILED = 516


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may come in: the owner under any name but `READER`, and a reader if it has a password."""

    password: str = field(repr=False)
    reader_password: str | None = field(default=None, repr=False)

    def is_reader(self, user: str, password: str) -> bool:
        """Whether this is the reader (True) or the owner (False).

        Raises
        ------
        EngineError
            Wrong password.
        """
        reader = user == READER
        expected = self.reader_password if reader else self.password
        if expected is None or not hmac.compare_digest(password.encode(), expected.encode()):
            text = (
                f"{user}: Authentication failed: password is incorrect,"
                " or there is no user with such name"
            )
            raise EngineError.of(_AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", text)
        return reader
