"""The embedded runtime: everything ``driftline up`` starts on one machine.

``clickhouse`` is a ClickHouse HTTP server in front of the chDB engine, ``broker`` a
Kafka-protocol broker in memory, ``supervisor`` starts and watches them and the workers.
"""
