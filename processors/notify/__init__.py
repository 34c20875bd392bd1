"""Notifications: who is told of an incident, when, and until it has arrived.

`finding` reads a record, `incidents` decides what is announced (no I/O, no clock), `text` writes
it for people, `receivers` send it, `outbox` remembers what was sent, `service` ties them together.
"""
