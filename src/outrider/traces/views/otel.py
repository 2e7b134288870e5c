"""A trace as OpenTelemetry spans, each sent when it has ended. Needs the extra `otel`."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace as otel

from outrider.traces.spans import Span, span_of
from outrider.traces.tracing import Place, Record, Sink, clock

_NAMES = {"call": "outrider.call", "command": "outrider.run"}


class Exporter(Sink):
    """Takes records and starts and ends a span for each, below the one that was current where it was asked for."""

    def __init__(self, provider: Any = None) -> None:
        self._tracer = otel.get_tracer("outrider", tracer_provider=provider)
        self._numbers: dict[Place, int] = {}
        # perf_counter is the finer clock, the wall clock the one that spans are dated by.
        self._zero, self._epoch = clock(), time.time_ns()
        self.who = contexts.get_current
        self.take = self.take_request = self._take

    def _take(self, record: Record) -> None:
        span = span_of(record, self._zero, self._numbers)
        self._send(span, contexts.get_current() if span.sender is None else span.sender)

    def _send(self, span: Span, context: Any) -> None:
        kind = otel.SpanKind.INTERNAL if span.kind in ("hop", "phase") else otel.SpanKind.CLIENT
        started = self._tracer.start_span(
            _title(span), context, kind, _attributes(span), start_time=self._at(span.start)
        )
        if span.error:
            started.set_status(otel.StatusCode.ERROR)
        if started.is_recording():
            inner = otel.set_span_in_context(started, context)
            for child in span.children:
                self._send(child, inner)
        started.end(self._at(span.end))

    def _at(self, seconds: float) -> int:
        return self._epoch + int(seconds * 1e9)


def _title(span: Span) -> str:
    if span.kind in ("call", "command", "module"):
        return f"{span.kind} {span.name}".rstrip()
    return span.name


def _attributes(span: Span) -> dict[str, Any]:
    """Names of OpenTelemetry's conventions where there are such; no arguments, no environment, no messages."""
    found: dict[str, Any] = {"outrider.route": span.place}
    if span.host:
        found |= {"server.address": span.host, "user.name": span.user}
    if span.kind == "call":
        found |= {"rpc.system": "outrider", "rpc.method": span.name}
    elif span.kind == "command":
        found["process.executable.name"] = span.name
        if "returncode" in span.about:
            found["process.exit.code"] = span.about["returncode"]
    for name in ("files", "bytes", "seconds_there"):
        if name in span.about:
            found[f"outrider.{name}"] = span.about[name]
    if span.error:
        found["error.type"] = span.error
    return found
