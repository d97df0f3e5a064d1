"""What Prometheus reads about requests.

Counted in plain numbers, by route, and put into Prometheus' form when it asks: its own
counters cost as much as the rest of the dispatch.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from homeserver.bounded import MEMORY
from homeserver.http.gate import Gate

BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0)

_WORKING: Final = Gauge(
    "hearth_http_requests_working", "Requests under way, long polls apart."
)
_WAITING: Final = Gauge(
    "hearth_http_requests_waiting", "Long polls that wait for news."
)
_OVERLOADED: Final = Gauge(
    "hearth_http_requests_overloaded",
    "Requests refused since the start because too many were under way.",
)


class RouteMetrics:
    """Counts the responses of one route."""

    __slots__ = ("_buckets", "_classes", "_seconds")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._classes = [0] * 10

    def count(self, status: int, seconds: float) -> None:
        """Count one response."""
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds
        self._classes[status // 100] += 1

    def show(
        self,
        labels: tuple[str, str],
        responses: CounterMetricFamily,
        seconds: HistogramMetricFamily,
    ) -> None:
        """Add what was counted to Prometheus' families."""
        total = 0
        cumulated: list[tuple[str, float]] = []
        for bound, number in zip((*BUCKETS, "+Inf"), self._buckets, strict=True):
            total += number
            cumulated.append((str(bound), total))
        seconds.add_metric(labels, cumulated, self._seconds)
        for hundreds, number in enumerate(self._classes):
            if number:
                responses.add_metric((*labels, f"{hundreds}xx"), number)


class _Requests(Collector):
    """The counts of all routes of this process, by API and operation."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], RouteMetrics] = {}

    def of(self, api: str, operation: str) -> RouteMetrics:
        """The counts of one route, the same for all its paths and listeners."""
        return self._routes.setdefault((api, operation), RouteMetrics())

    def collect(
        self,
    ) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """What Prometheus asks for."""
        responses = CounterMetricFamily(
            "hearth_http_responses",
            "Responses by class of status; 4xx with those whose client went away.",
            labels=("api", "operation", "status"),
        )
        seconds = HistogramMetricFamily(
            "hearth_http_request_seconds",
            "Time from a request's head to the end of its endpoint.",
            labels=("api", "operation"),
        )
        for labels, counts in list(self._routes.items()):
            counts.show(labels, responses, seconds)
        yield responses
        yield seconds


class _Holdings(Collector):
    """What the caches and queues of this process hold, and how much of it they may."""

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """What Prometheus asks for."""
        held = GaugeMetricFamily(
            "hearth_memory_bytes",
            "What caches and queues hold, as counted.",
            labels=("name",),
        )
        limit = GaugeMetricFamily(
            "hearth_memory_limit_bytes", "How much they may hold.", labels=("name",)
        )
        hits = CounterMetricFamily(
            "hearth_cache_hits",
            "What caches had when they were asked.",
            labels=("name",),
        )
        misses = CounterMetricFamily(
            "hearth_cache_misses", "What they did not have.", labels=("name",)
        )
        for each in MEMORY.held():
            held.add_metric((each.name,), each.bytes)
            limit.add_metric((each.name,), each.limit)
            if each.hits is not None and each.misses is not None:
                hits.add_metric((each.name,), each.hits)
                misses.add_metric((each.name,), each.misses)
        yield from (held, limit, hits, misses)


REQUESTS: Final = _Requests()
REGISTRY.register(REQUESTS)
REGISTRY.register(_Holdings())


def show_gate(gate: Gate) -> None:
    """Have the gauges read this gate, the process's."""
    _WORKING.set_function(lambda: gate.working)
    _WAITING.set_function(lambda: gate.waiting)
    _OVERLOADED.set_function(lambda: gate.refused)
