"""What every detector of this package owes, and how its state becomes text and back.

A detector is built from parameters, takes one tick at a time through ``update`` (which returns the
detector itself) and answers through properties that speak of the last tick. It follows many streams
at once: state and answers are arrays of shape (n_streams,). It does no I/O, reads no clock and
draws no random numbers unless given a seed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Snapshot: TypeAlias = dict[str, Any]
"""Plain JSON types only: safe to store as text and to load from anywhere."""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

_LAYOUT = 3  # of snapshots: raised when the arrays of a detector change


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


class Streams:
    """State of many streams as one array per name: growing, resetting, saving and loading it.

    A subclass lists its arrays in ``_state`` (name -> axes after the streams, type), the length of
    each axis in ``_axes``, and its parameters in ``_params``, which are the keyword arguments of
    its constructor; the first argument of the constructor is the number of streams.
    """

    _state: ClassVar[dict[str, tuple[str, type]]] = {}
    _params: ClassVar[tuple[str, ...]] = ()
    _never: ClassVar[tuple[str, ...]] = ()
    """Arrays that hold ticks, where -1 means never."""

    n_streams: int = 0

    def __init__(self, n_streams: int = 0, **params: Any) -> None:
        raise NotImplementedError("a subclass stores its parameters, then calls _begin")

    def _axes(self) -> dict[str, int]:
        return {}

    def _begin(self, n_streams: int) -> None:
        for name, (axes, dtype) in self._state.items():
            setattr(self, name, np.zeros(self._shape(0, axes), dtype))
        self.n_streams = 0
        Streams.extend(self, n_streams)

    def _shape(self, count: int, axes: str) -> tuple[int, ...]:
        lengths = self._axes()
        return (count, *(lengths[axis] for axis in axes))

    def extend(self, count: int) -> Self:
        """Add ``count`` new streams behind the others."""
        for name, (axes, dtype) in self._state.items():
            start = -1 if name in self._never else 0
            fresh: NDArray[Any] = np.full(self._shape(count, axes), start, dtype)
            setattr(self, name, np.concatenate([getattr(self, name), fresh]))
        self.n_streams += count
        return self

    def take(self, streams: ArrayLike) -> Self:
        """Keep only ``streams`` (mask or indices), in that order."""
        chosen = np.asarray(streams)
        for name in self._state:
            setattr(self, name, getattr(self, name)[chosen])
        self.n_streams = len(getattr(self, next(iter(self._state))))
        return self

    def clear(self, streams: Any, names: Iterable[str] | None = None) -> None:
        """Set the state of ``streams`` (any index of the first axis) back to the beginning."""
        for name in self._state if names is None else names:
            getattr(self, name)[streams] = -1 if name in self._never else 0

    def snapshot(self) -> Snapshot:
        """Parameters and state as JSON types; `restore` gives back the same bits."""
        return {
            "detector": type(self).__name__,
            "version": _LAYOUT,
            "params": {name: getattr(self, name) for name in self._params},
            "state": {name: pack(getattr(self, name)) for name in self._state},
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the object of a snapshot again.

        Raises
        ------
        ValueError
            If the snapshot is of another class or version, or its arrays do not fit.
        """
        if (snapshot.get("detector"), snapshot.get("version")) != (cls.__name__, _LAYOUT):
            raise ValueError(f"not a snapshot of {cls.__name__}, version {_LAYOUT}")
        restored = cls(0, **snapshot["params"])
        arrays = {name: unpack(snapshot["state"][name]) for name in cls._state}
        count = len(next(iter(arrays.values())))
        for name, (axes, dtype) in cls._state.items():
            if arrays[name].shape != restored._shape(count, axes) or arrays[name].dtype != dtype:
                raise ValueError(f"{name} of the snapshot has the wrong shape or type")
            setattr(restored, name, arrays[name])
        restored.n_streams = count
        return restored


def ratio(total: Floats, n: Floats) -> Floats:
    """``total / n``, NaN where n is 0."""
    mean: Floats = np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)
    return mean
