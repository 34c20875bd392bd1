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

from __future__ import annotations

import os

# Polars would give the memory of a batch back to the kernel and fault it in for the next: a fifth
# of a worker's CPU. It reads this when it is loaded, hence here, before anything can load it.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:5000,muzzy_decay_ms:5000")
