"""A wire between clients and the gateway that keeps what they really sent."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from aiohttp import ClientSession, web
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest,
}  # fmt: skip


class Recorder:
    """Passes every request on; ``sent`` has routes and bodies as OTLP JSON, by client."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sent: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)

    def app(self) -> web.Application:
        """Return the application to serve; clients append the route to ``/NAME``."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/{client}{route:/v1/[a-z]+}", self._pass_on)
        return app

    async def _pass_on(self, request: web.Request) -> web.Response:
        client, route = request.match_info["client"], request.match_info["route"]
        body, kind = await request.read(), request.content_type
        if route in _REQUESTS:
            is_json = kind == "application/json"
            message = None if is_json else _REQUESTS[route].FromString(body)
            found = json.loads(body) if is_json else MessageToDict(message)
            self.sent[client].append((route, found))
        async with (
            ClientSession() as session,
            session.post(self.address + route, data=body, headers={"Content-Type": kind}) as answer,
        ):
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )
