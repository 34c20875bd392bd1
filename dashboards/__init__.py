"""Rows become pictures and alarms.

The way of one panel or rule::

    query.py      SQL fragments, and the targets and variables of Grafana's ClickHouse plugin
    judged.py     interactions and sessions with what is known of their success and rating
    panels.py     one builder per kind of panel, and the grid they stand in
    agents.py     panels about success, traffic, latency and satisfaction of the agents
    usage.py      panels about what they use: tools, tokens, money
    incidents.py  panels about failures, findings and alerts
    overview.py   the dashboard for everybody: are the agents healthy, can the monitor be trusted
    pipeline.py   the dashboard for the operator: the books and the health of the monitor itself
    alerts.py     rule groups with their runbook
    grafana.py    the one adapter around the Grafana client, and its in-memory twin
    publisher.py  what belongs into a Grafana, and bringing it there

Up to `alerts` all is pure and returns plain JSON types. Beside them `metrics` and `accounting` read
the numbers and the books for the command line.
"""
