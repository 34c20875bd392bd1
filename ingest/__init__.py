"""Bytes arrive, become canonical events and reach Kafka.

An event's way, file by file::

    readers/        files of other tools, one record at a time -> Event or Rejected
      files           gzip, JSON Lines or one document -> JSON records
      tau2, agentrx,
      sweagent        recorded conversations, through transcript
      otel            span exports, through spans and the tables of conventions
      canonical       events as they are
    simulate/       made-up traffic with incidents on a schedule and the truth about them
    replay          order, pace, shift to now, tally
    producer        batches per partition -> NDJSON records on the topic, acknowledged by all

What everybody shares: ``events`` (the contract), ``errors`` (by what to do next),
``codec`` (events <-> bytes), ``kafka`` (where the brokers are) and ``reach`` (whether they answer).
"""
