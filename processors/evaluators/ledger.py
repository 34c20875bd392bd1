"""Calls to models: written down before they are made, so that budgets hold for all processes.

A reservation is a row with the most that the call can cost. After it is stored, the sums over the
account are read back, own row included; only when they are within the budget the call is made.
A later reservation sees this row, so no number of processes, restarts or stopped processes that
wake up can spend more than the budget. Two that meet at its end may both step back; they try again.

The same reading shows whether somebody else holds the same item: then this reservation is taken
back. So an item is called for by one process at a time, and never again once it was answered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import polars as pl

from processors.clickhouse import Store
from processors.evaluators.items import Item
from processors.evaluators.spec import Budget

_TRIES: Final = 4
_USD: Final = pl.Decimal(18, 9)
_REMEMBERED: Final = "INTERVAL 8 DAY"

_SPENT: Final = """
SELECT countIf(reserved > now64(3) - INTERVAL 60 SECOND) AS minute,
    sumIf(charge_usd, reserved >= toStartOfDay(now64(3, 'UTC'))) AS day,
    sumIf(charge_usd, reserved >= toMonday(now64(3, 'UTC'))) AS week
FROM evaluation_calls FINAL
WHERE account = {account:String} AND state != 'withdrawn'
    AND reserved >= least(toDateTime(toMonday(now('UTC')), 'UTC'), now('UTC') - INTERVAL 60 SECOND)
"""

_HISTORY: Final = f"""
SELECT call_id, owner, attempt, state, toString(reason) AS reason, item, reserved,
    toString(at) AS at, answer, model, latency_ms, toFloat64(charge_usd) AS usd, priced,
    dateDiff('second', reserved, now64(3)) AS age_s
FROM evaluation_calls FINAL
WHERE reserved > now() - {_REMEMBERED} AND state != 'withdrawn' AND evaluator = {{evaluator:String}}
    AND (item = {{item:String}} OR (input_hash = {{hash:UInt64}} AND state = 'answered'
        AND evaluator_version = {{version:String}} AND purpose != 'anchor'))
ORDER BY reserved, call_id
"""  # noqa: S608 - our own constants

_CALLED: Final = f"""
SELECT DISTINCT item FROM evaluation_calls
WHERE reserved > now() - {_REMEMBERED} AND account = {{account:String}}
    AND item IN {{items:Array(String)}}
"""  # noqa: S608 - of our own constants

_OWN: Final = (
    "SELECT reserved FROM evaluation_calls WHERE account = {a:String} AND call_id = {c:String}"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that may be made now; ``reserved`` is its time in the ledger."""

    call_id: str
    reserved: Any
    row: dict[str, Any]


class Ledger:
    """Reservations and settlements of one process.

    Parameters
    ----------
    store
        The database that all processes share.
    owner
        Name of this process, unlike any other's and any earlier one's.
    """

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self.owner = owner
        self._locks: dict[str, asyncio.Lock] = {}

    def history(self, item: Item, input_hash: int) -> list[dict[str, Any]]:
        """Calls made for this item, and answers to the same input, oldest first."""
        found = self._store.query(
            _HISTORY,
            {
                "evaluator": item.evaluator, "item": item.key, "hash": input_hash,
                "version": item.evaluator_version,
            },
        )  # fmt: skip
        return found.to_dicts()

    def called_while_spent(
        self, items: Sequence[Item], least_usd: Decimal | None, budget: Budget
    ) -> set[str] | None:
        """Keys of those of these items that were called for; None while the budget allows a call.

        Parameters
        ----------
        items
            Of one account.
        least_usd
            What the cheapest call can cost at most; None when no price is known.
        """
        account = items[0].account
        if self._fits(account, budget, least_usd, ahead=True):
            return None
        names = {"account": account, "items": [item.key for item in items]}
        found = self._store.query(_CALLED, names)
        return set(found["item"].to_list()) if not found.is_empty() else set()

    async def reserve(
        self, item: Item, attempt: int, input_hash: int, most_usd: Decimal | None, budget: Budget
    ) -> Grant | str:
        """Reserve a call: a grant, or ``spent``, or ``taken`` when another process has the item.

        Parameters
        ----------
        most_usd
            The most that the call can cost; None when no price is known.
        """
        # One at a time within a process, or the last calls of a budget turn each other out.
        async with self._locks.setdefault(item.account, asyncio.Lock()):
            for number in range(_TRIES):
                if number:
                    await asyncio.sleep(random.uniform(0.05, 0.25) * number)  # noqa: S311
                found = await asyncio.to_thread(
                    self._try, item, attempt, input_hash, most_usd, budget, number
                )
                if found != "contended":
                    return found
        return "spent"

    def _try(
        self,
        item: Item,
        attempt: int,
        input_hash: int,
        most_usd: Decimal | None,
        budget: Budget,
        number: int,
    ) -> Grant | str:
        call_id = f"{item.key}:{attempt}:{self.owner}:{number}"
        row = {
            "account": item.account, "call_id": call_id, "version": 1, "item": item.key,
            "owner": self.owner, "attempt": attempt, "state": "reserved", "reason": "",
            "evaluator": item.evaluator, "evaluator_version": item.evaluator_version,
            "purpose": item.purpose, "target": item.target, "input_hash": input_hash,
            "charge_usd": most_usd or Decimal(0), "priced": int(most_usd is not None),
        }  # fmt: skip
        if not self._fits(item.account, budget, most_usd, ahead=True):
            return "spent"  # without a row for each target that nobody can pay for
        self._insert([row])
        reserved = self._store.query(_OWN, {"a": item.account, "c": call_id})["reserved"][0]
        grant = Grant(call_id, reserved, row)
        others = [
            call
            for call in self.history(item, 0)
            if call["owner"] != self.owner and call["state"] in ("reserved", "answered", "refused")
        ]
        if others:
            self.settle(grant, state="withdrawn", usd=Decimal(0))
            return "taken"
        if not self._fits(item.account, budget, most_usd, ahead=False):
            self.settle(grant, state="withdrawn", usd=Decimal(0))
            return "contended"
        return grant

    def _fits(self, account: str, budget: Budget, usd: Decimal | None, *, ahead: bool) -> bool:
        """Whether what is in the ledger, and with ``ahead`` one call more, is within the budget."""
        limits = (budget.calls_per_minute, budget.usd_per_day, budget.usd_per_week)
        if limits == (None, None, None):
            return True
        spent = self._store.query(_SPENT, {"account": account}).row(0)
        each = usd or Decimal(0)
        more = (Decimal(1), each, each) if ahead else (Decimal(0),) * 3
        return all(
            limit is None or Decimal(str(has)) + add <= Decimal(str(limit))
            for limit, has, add in zip(limits, spent, more, strict=True)
        )

    def settle(
        self, grant: Grant, *, state: str, usd: Decimal | None = None, **values: Any
    ) -> None:
        """Say how a call ended; without ``usd`` the reservation stays as its charge."""
        charge = {} if usd is None else {"charge_usd": usd}
        self._insert(
            [
                {
                    **grant.row,
                    "version": 2,
                    "reserved": grant.reserved,
                    "state": state,
                    **charge,
                    **values,
                }
            ]
        )

    def _insert(self, rows: Sequence[dict[str, Any]]) -> None:
        frame = pl.DataFrame(
            rows,
            schema_overrides={
                "charge_usd": _USD, "version": pl.UInt8, "attempt": pl.UInt8, "priced": pl.UInt8,
                "input_hash": pl.UInt64, "input_tokens": pl.UInt64, "output_tokens": pl.UInt64,
                "latency_ms": pl.Float64, "at": pl.Datetime("ns", "UTC"),
                "reserved": pl.Datetime("ms", "UTC"),
            },
        )  # fmt: skip
        self._store.insert("evaluation_calls", frame)
