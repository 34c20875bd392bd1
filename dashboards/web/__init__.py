"""The local board: the dashboards' JSON without a Grafana, and pages that Grafana cannot give.

`boards` runs the queries of the rendered JSON, `server` serves them and the pages of
`dashboards.lookup` to the script in ``static``. Loopback, read-only, with a token.
"""
