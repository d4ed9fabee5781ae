"""Counters for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from .admission import Admission
from .pool import ModelPool


class _Work(Collector):
    """What the models in memory have done."""

    def __init__(self, pool: ModelPool):
        self._pool = pool

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The sums over all models."""
        done = [model.work for model in self._pool.models]
        for name, text, values in (
            ("tokens", "Speech tokens", [each.tokens for each in done]),
            ("steps", "Steps of decoding batches", [each.steps for each in done]),
            ("decoding_seconds", "Time of these steps", [each.seconds["tokens"] for each in done]),
            ("rendering_seconds", "Time of making audio", [each.seconds["audio"] for each in done]),
        ):
            yield CounterMetricFamily(f"mlx_audio_turbo_{name}", text, sum(values))


class Metrics:
    """The counters of one server."""

    def __init__(self, admission: Admission, pool: ModelPool):
        registry = self._registry = CollectorRegistry()
        name = "mlx_audio_turbo"
        self._requests = Counter(f"{name}_requests", "Requests", ["path"], registry=registry)
        self._seconds = Counter(f"{name}_audio_seconds", "Seconds of speech", registry=registry)
        self._first = Histogram(
            f"{name}_first_audio_seconds", "Time to the first audio", registry=registry
        )
        self._factor = Histogram(
            f"{name}_real_time_factor", "Seconds of work per second of speech", registry=registry
        )
        for gauge, text, value in (
            ("active", "Requests that are spoken", lambda: admission.active),
            ("queue", "Requests that wait for a place", lambda: admission.waiting),
            ("models", "Models in memory", lambda: len(pool.loaded)),
        ):
            Gauge(f"{name}_{gauge}", text, registry=registry).set_function(value)
        registry.register(_Work(pool))

    def request(self, path: str) -> None:
        """Count a request of the route ``path``, as it is defined: clients choose no labels."""
        self._requests.labels(path).inc()

    def first_audio(self, seconds: float) -> None:
        """Note how long the first audio took."""
        self._first.observe(seconds)

    def spoken(self, duration: float, seconds: float | None = None) -> None:
        """Note a response of ``duration`` seconds that took ``seconds``.

        What waited for its text while it was written has no time of its own.
        """
        self._seconds.inc(duration)
        if duration and seconds is not None:
            self._factor.observe(seconds / duration)

    def text(self) -> bytes:
        """All counters in Prometheus's format."""
        return generate_latest(self._registry)
