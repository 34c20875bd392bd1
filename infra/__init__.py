"""How driftline is started, configured and stored; the composition root, which nobody imports.

::

    cli.py            the command line: a table of contents of commands/
    settings.py       the only reader of the environment; sections.py says what can be set
    connections.py    from settings, or from the running runtime, to configs and clients
    state.py          what a running runtime tells the other commands
    migrate.py        brings a database to the tables in migrations/
    topics.py         creates topics, tells one incarnation of a log from another
    embedded/         broker, ClickHouse server and supervisor of ``driftline up``
"""
