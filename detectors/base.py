"""What every detector of this package owes, and how its state becomes text and back.

A detector is built from parameters, takes one tick at a time through ``update`` (which returns the
detector itself) and answers through properties that speak of the last tick. It follows many streams
at once: state and answers are arrays of shape (n_streams,). It does no I/O, reads no clock and
draws no random numbers unless given a seed.
"""

from __future__ import annotations

import base64
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Snapshot: TypeAlias = dict[str, Any]
"""Plain JSON types only: safe to store as text and to load from anywhere."""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@runtime_checkable
class Detector(Protocol):
    """A sequential change detector over many streams."""

    @property
    def detected(self) -> Bools:
        """Whether each stream is in a detected change now, shape (n_streams,)."""

    @property
    def e_value(self) -> Floats:
        """Evidence against "nothing has changed" at the last tick, shape (n_streams,)."""

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; the same snapshot restores the same bits."""

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the detector of a snapshot again."""


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """Turn an array into JSON types, bit for bit.

    Parameters
    ----------
    array
        Numbers or booleans of any shape.

    Returns
    -------
    dict
        ``dtype``, ``shape`` and the little-endian bytes in base64.
    """
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": little.dtype.str,
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Build the array that `pack` turned into JSON types.

    Raises
    ------
    ValueError
        If the type is not a plain number or the bytes do not fill the shape.
    """
    dtype = np.dtype(packed["dtype"])
    if dtype.kind not in "fiub":
        raise ValueError(f"a snapshot holds numbers only, not {dtype}")
    raw = base64.b64decode(packed["data"], validate=True)
    array = np.frombuffer(raw, dtype=dtype).reshape(packed["shape"])
    return array.astype(dtype.newbyteorder("="), copy=True)
