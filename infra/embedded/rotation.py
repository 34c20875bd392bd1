"""When the embedded broker may begin a new log: everything in the old one is booked.

The broker keeps all records in memory and cannot delete any, so its log is replaced as a whole:
what produces is stopped, what consumes works off the rest, then broker and topics are made anew.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from ingest.core.errors import Unavailable

if TYPE_CHECKING:
    from ingest.core.kafka import KafkaConfig

LOOK_EVERY_S: Final = 2.0
"""How often the broker's memory is compared with its bound."""

WORK_OFF_S: Final = 30.0
"""How long consumers may take for the rest; gateway and receiver are down meanwhile."""

AGAIN_S: Final = 60.0
"""How long after an attempt that failed the next one begins."""

_POLL_S: Final = 0.2
Place = tuple[str, int]


def is_booked(ends: Mapping[Place, int], committed: Mapping[Place, int]) -> bool:
    """Whether some group has committed all that each partition holds.

    Parameters
    ----------
    ends
        Per topic and partition, the offset after the last record as the broker reports it.
    committed
        The highest offset that a group has committed.
    """
    return all(not end or committed.get(place, 0) >= end for place, end in ends.items())


class Log:
    """What the broker holds and what its groups have committed.

    Parameters
    ----------
    kafka
        The broker.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka

    def is_booked_by(self, deadline: float, topics: Collection[str]) -> bool:
        """Whether all of ``topics`` is booked before ``deadline``, in monotonic time.

        Raises
        ------
        Unavailable
            The broker does not answer.
        """
        from kafka.errors import KafkaError

        try:
            while not is_booked(*self._offsets(topics)):
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
        except (KafkaError, OSError) as error:
            raise Unavailable(f"the broker does not answer: {error!r}") from error
        return True

    def _offsets(self, topics: Collection[str]) -> tuple[dict[Place, int], dict[Place, int]]:
        from kafka import KafkaConsumer
        from kafka.admin import KafkaAdminClient

        options: dict[str, Any] = self._kafka.client_options()
        with (
            closing(KafkaConsumer(**options)) as consumer,
            closing(KafkaAdminClient(**options)) as admin,
        ):
            known = admin.list_topics()
            ends = consumer.end_offsets(_partitions(consumer, set(topics) & set(known)))
            committed: dict[Place, int] = {}
            for name in (group["group_id"] for group in admin.list_groups()):
                for place, found in admin.list_group_offsets(name)[name].items():
                    key = (place.topic, place.partition)
                    committed[key] = max(committed.get(key, 0), found.offset)
        return {(place.topic, place.partition): end for place, end in ends.items()}, committed


def _partitions(consumer: Any, topics: Collection[str]) -> list[Any]:
    from kafka import TopicPartition

    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in consumer.partitions_for_topic(topic) or ()
    ]
