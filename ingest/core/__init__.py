"""What every station shares: events, errors, Kafka, metrics, retry, dead letters, health."""
