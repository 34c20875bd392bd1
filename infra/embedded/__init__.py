"""The embedded runtime: everything ``driftline up`` starts on one machine.

::

    supervisor.py    starts broker, engine, tables, topics, workers; watches and stops them
    process.py       children that cannot outlive their parent
    broker.py        Tansu, a Kafka-protocol broker in memory
    clickhouse.py    the process of the ClickHouse server in front of chDB
    http_server.py       requests and answers of the ClickHouse HTTP interface
    http_query.py        from an HTTP request to a statement
    engine.py            sessions on chDB, inserts, limits
    readers.py           what a reader may ask: lists of what is allowed
    running.py           what runs now: cancelling it, and naming it when the engine has died of it
    sandbox.py           Landlock: the process opens its data and its libraries, nothing else
    budget.py            bytes of all requests in memory
    credentials.py       who may come in
    rotation.py      when the broker may begin a new log
    statements.py        statements, limits, results, errors
    native.py            the little of the Native format that is written here
"""
