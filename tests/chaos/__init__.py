"""Faults against a running pipeline, from outside: Kafka, HTTP, SQL, processes and signals.

Nothing here imports the project (a test holds that), so what is computed from the produced events
cannot share a mistake with what it checks. ``python -m tests.chaos --list`` names the faults,
``make chaos`` runs them all.
"""
