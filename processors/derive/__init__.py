"""Dirty marks become windows, interaction results, session results and rollups."""
