"""Health of a process: samples of its partitions, a verdict on them, and HTTP probes."""
