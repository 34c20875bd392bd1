"""Seeded benchmarks: each module has ``run(quick, seed, out)`` and returns one JSON object."""
