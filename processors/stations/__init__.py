"""Stations read what is sealed and say what changed."""
