"""Fuzzing of everything that reads what strangers send; `make fuzz` takes ten minutes for each."""
