"""The embedded runtime: everything ``driftline up`` starts on one machine.

::

    supervisor.py    starts broker, engine, tables, topics, workers; watches and stops them
    process.py       children that cannot outlive their parent
    broker.py        Tansu, a Kafka-protocol broker in memory
    clickhouse.py    the process of the ClickHouse server in front of chDB
    http_server.py       requests and answers of the ClickHouse HTTP interface
    http_query.py        from an HTTP request to a statement
    engine.py            sessions on chDB, inserts, what a reader may do
    statements.py        statements, limits, results, errors
    native.py            the little of the Native format that is written here
"""
