"""The HTTP gateway: what agents send becomes canonical events in Kafka before it is answered 200.

A request's way, file by file::

    server           connections, routes, who may come in, the body within its bounds
    routes           one function per route: body -> events and refusals
    feedback         ratings and comments -> events of kind feedback
    admission        rules for all events: time, agent, environment, redaction; by partition
    batcher          batches -> records; a request waits until Kafka has acknowledged its own
    record_producer  kafka-python's producer behind two methods, and its twin in memory
    responses        status codes and bodies, in the encoding of the request
    process          signals, drain
    metrics          what the gateway counts

Memory is bounded by `GatewayConfig.queue_bytes`: bodies and encoded events are counted from their
first byte until Kafka has them. Beyond it, and while Kafka is away, requests are refused at once
with the time after which to try again.
"""
