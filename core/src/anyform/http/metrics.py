"""GET /metrics for Prometheus: what the server's requests and models came to. Counts; decides nothing.

Requests are measured on the event loop, a few microseconds a batch of events; loads are heard of from the news.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Fault
from anyform.contract.events import Blob, Done, Event, Reasoning, Text, ToolCall
from anyform.http import fault
from anyform.http.imagereply import is_whole

if TYPE_CHECKING:
    from anyform.http.gate import Gate
    from anyform.http.service import Service
    from anyform.kernel.news import Item
    from anyform.kernel.runtime import Runtime

TOKENS = (Text, Reasoning, ToolCall)
"""Events that carry tokens."""
WAITS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
BY = ("model", "backend")
Key = tuple[str, str]
"""Values of BY; each is empty where it is not known."""


class Gaps(Collector):
    """Times between tokens: a histogram without locks and labels to look up, since this is on the way of each token."""

    def __init__(self) -> None:
        self._counts: dict[Key, list[int]] = {}
        self._sums: dict[Key, float] = {}

    def add(self, key: Key, gap_s: float, tokens: int) -> None:
        """*tokens* came, each *gap_s* after the one before it."""
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(GAPS_S) + 1)
            self._sums[key] = 0.0
        counts[bisect_left(GAPS_S, gap_s)] += tokens
        self._sums[key] += gap_s * tokens

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(
            "anyform_token_gap_seconds", "From one token of an answer to the next, as the server got them.", labels=BY
        )
        for key, counts in self._counts.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, GAPS_S), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(key, buckets, self._sums[key])
        yield family


class Present(Collector):
    """What is there when it is asked for: requests in line, and the bytes of models."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.bytes: Sequence[tuple[str, str, str, int]] = ()
        """(model, backend, kind, bytes)"""
        self.backends: Mapping[str, str] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily("anyform_requests_running", "Requests that are being answered.", labels=BY)
        waiting = GaugeMetricFamily("anyform_requests_waiting", "Requests that wait for a load or a turn.", labels=BY)
        for model, (runs, waits) in self._gate.counts().items():
            running.add_metric((model, self.backends.get(model, "")), runs)
            waiting.add_metric((model, self.backends.get(model, "")), waits)
        size = GaugeMetricFamily(
            "anyform_model_bytes",
            "Memory of a loaded model: measured of its worker, or estimated.",
            labels=(*BY, "kind"),
        )
        for model, backend, kind, number in self.bytes:
            size.add_metric((model, backend, kind), number)
        yield from (running, waiting, size)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self, runtime: Runtime, gate: Gate, names: Mapping[str, str]) -> None:
        """*names*: model as asked for -> the name in the library; others are no label, or clients could make any."""
        self._runtime, self.names = runtime, names
        self.registry = CollectorRegistry()
        self.backends: dict[str, str] = {}
        self.gaps, self._present = Gaps(), Present(gate)
        self._present.backends = self.backends
        for collector in (self.gaps, self._present):
            self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        self.requests = self._counter(
            "requests", "Requests, by how they ended: ok, cancelled, or the fault's code.", "route", "outcome"
        )
        self.seconds = self._histogram("request_seconds", "From a request's body to the end of its answer.", "route")
        self.first = self._histogram(
            "first_token_seconds",
            "From a request's body to its first token, sound or picture: waiting, loading, prompt.",
        )
        self.pictures = self._counter("pictures", "Pictures that were made, without those on the way to one.")
        self.picture_seconds = self._histogram("picture_seconds", "How long its model took for a picture.")
        self.tokens = self._counter("tokens", "Tokens of prompts, of these from the cache, and of completions.", "kind")
        self._loads = self._counter("loads", "Models that were loaded.")
        self._load_seconds = self._histogram("load_seconds", "From the begin of a load to a model that is ready.")
        self._failures = self._counter("load_failures", "Loads that failed, by the fault's code.", "code")
        self._evictions = self._counter("evictions", "Models that were unloaded to make room for another.")
        self._crashes = self._counter("crashes", "Workers that ended by themselves.")
        self._stuck = self._counter("stuck", "Workers that were ended, since they said nothing for too long.")
        self.close = runtime.news.listen(self._hear, after=0)
        """Hears no more news."""

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"anyform_{name}", about, (*BY, *labels), registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"anyform_{name}", about, (*BY, *labels), registry=self.registry, buckets=WAITS_S)

    def begin(self, route: str, asked: str) -> Meter:
        """Measure a request to *route* for the model *asked*."""
        return Meter(self, route, asked)

    def refused(self, route: str, refusal: Fault) -> None:
        """A request that was refused before it was known which model it is for."""
        self.requests.labels("", "", route, refusal.code).inc()

    def key(self, model: str) -> Key:
        return model, self.backends.get(model, "")

    def _hear(self, item: Item) -> None:
        """What happened to a model; in the thread in which it happened."""
        if item.kind == "loading":
            self.backends[item.model] = str(item.facts.get("backend", ""))
        labels = self.key(item.model)
        if item.kind == "loaded":
            self._loads.labels(*labels).inc()
            self._load_seconds.labels(*labels).observe(float(item.facts.get("seconds", 0)))
        elif item.kind == "failed":
            self._failures.labels(*labels, str(item.facts.get("code", ""))).inc()
        elif item.kind == "unloaded" and item.facts.get("why") == "evicted":
            self._evictions.labels(*labels).inc()
        elif item.kind == "crashed":
            self._crashes.labels(*labels).inc()
        elif item.kind == "stuck":
            self._stuck.labels(*labels).inc()

    def weighed(self) -> list[tuple[str, str, str, int]]:
        """(model, backend, measured or estimated, bytes) of what is loaded; asks the system, so not on the loop."""
        found = []
        for at in self._runtime.pool.residents():
            if at.held is not None:
                measured = getattr(at.model, "memory_bytes", 0)
                sizes = {"measured": measured, "estimated": sum(at.promised.values())}
                found += [(at.name, at.held.plan.backend, kind, size) for kind, size in sizes.items() if size]
        return found

    def render(self, accept: str, weighed: Sequence[tuple[str, str, str, int]]) -> tuple[bytes, str]:
        """(body, content type) in the form that *accept* prefers."""
        self._present.bytes = weighed
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class Meter:
    """One request, from its body to the end of its answer. On the event loop alone."""

    __slots__ = ("_asked", "_began", "_key", "_last", "_metrics", "_pictures", "_route")

    def __init__(self, metrics: Metrics, route: str, asked: str) -> None:
        self._metrics, self._route, self._asked = metrics, route, asked
        self._began = time.monotonic()
        self._key: Key | None = None
        self._pictures = 0
        self._last: dict[int, float] = {}

    def take(self, job: int, events: Sequence[Event]) -> None:
        """A batch of the request's *job*-th job."""
        now, last = time.monotonic(), self._last.get(job)
        done = events[-1] if isinstance(events[-1], Done) else None
        if last is not None:
            tokens = len(events) - (done is not None)
            if tokens and self._key is not None:
                self._metrics.gaps.add(self._key, (now - last) / tokens, tokens)
                self._last[job] = now
        elif tokens := sum(isinstance(event, TOKENS) for event in events):
            self._last[job] = now
            key = self._first(now)
            if tokens > 1:
                # They came together, as where the server was busy: nothing lay between them.
                self._metrics.gaps.add(key, 0.0, tokens - 1)
        elif blobs := [event for event in events if isinstance(event, Blob)]:
            self._first(now)
            self._pictures += sum(blob.media_type.startswith("image/") and is_whole(blob) for blob in blobs)
        if done is not None:
            self._count(done)

    def _first(self, now: float) -> Key:
        if self._key is None:
            self._key = self._metrics.key(self._model())
            self._metrics.first.labels(*self._key).observe(now - self._began)
        return self._key

    def _count(self, done: Done) -> None:
        usage, tokens = done.usage, self._metrics.tokens
        for kind, number in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            if number:
                tokens.labels(*self._metrics.key(self._model()), kind).inc(number)
        if self._pictures:
            self._count_pictures(done)

    def _count_pictures(self, done: Done) -> None:
        key, metrics = self._metrics.key(self._model()), self._metrics
        metrics.pictures.labels(*key).inc(self._pictures)
        for _ in range(self._pictures):
            metrics.picture_seconds.labels(*key).observe(done.generate_s / self._pictures)
        self._pictures = 0

    def end(self, outcome: str) -> None:
        """*outcome*: ok, cancelled, or a fault's code."""
        key = self._metrics.key(self._model())
        self._metrics.requests.labels(*key, self._route, outcome).inc()
        self._metrics.seconds.labels(*key, self._route).observe(time.monotonic() - self._began)

    def failed(self, error: Exception) -> Fault:
        """The fault to tell the client of *error*; it goes to the log too, with a traceback if nobody foresaw it."""
        seen = fault.unforeseen(error)
        seen.part = seen.part or self._model()
        if seen is not error:
            fault.log.error("a request failed", exc_info=error)
        fault.tell(seen, self._route)
        self.end(seen.code)
        return seen

    def _model(self) -> str:
        return self._metrics.names.get(self._asked, "")


class Exposition:
    """The resource."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def metrics(self, request: Request) -> Response:
        metrics = self._service.metrics
        weighed = await self._service.threads.quick(metrics.weighed)
        body, content_type = metrics.render(request.headers.get("accept", ""), weighed)
        return Response(body, headers={"content-type": content_type})
