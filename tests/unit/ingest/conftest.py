"""The list of prices is read before the tests, not within the time of the first that needs it."""

from ingest.prices import load

load()
