"""Evaluators: what judges an interaction or a session, and how its answer is read."""
