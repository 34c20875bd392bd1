"""Rows become pictures and alarms.

The way of one panel or rule::

    queries/*.sql  named statements with typed slots, and `render`, which fills them for Grafana,
                   the command line and the board alike
    query.py       targets, variables and annotations of Grafana's ClickHouse plugin
    panels.py      one builder per kind of panel, links, and the grid they stand in
    boards/        a file per dashboard, a table of contents first; links.py says where numbers lead
    slo.py         objectives from a file, and their burn rates
    rules.py       alert rules as one list, for Grafana's API and as provisioning file
    grafana.py     the one adapter around the Grafana client, and its in-memory twin
    publisher.py   what belongs into a Grafana, and bringing it there

Up to `rules` all is pure and returns plain JSON types. Beside them `agent_report` and `accounting`
read the numbers and the books for the command line.

A new panel is a statement in a file of ``queries/`` and a call of a builder in a board; a new rule
is an entry in `rules`. ``driftline dashboards render`` writes both to ``rendered/``.
"""
