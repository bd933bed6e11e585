# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics of queues and handles, for Prometheus and what else reads OpenMetrics.

A ``Collector`` goes into a registry of ``prometheus_client``, which a program serves with all of
its metrics. The command ``libnetfilterqueue metrics`` serves what the kernel reports of its queues.
"""

from collections.abc import Iterator, Mapping

import libnetfilterqueue as nfq

try:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector as _Collector
except ModuleNotFoundError as _error:
    if _error.name != "prometheus_client":
        raise
    raise ImportError(
        "libnetfilterqueue.metrics needs prometheus_client: pip install prometheus-client",
        name="prometheus_client",
    ) from _error

__all__ = ["Collector"]

_STATS = {  # the fields of HandleStats
    "packets": "Packets that were dispatched to callbacks.",
    "verdicts": "Verdicts that were executed, defaults included.",
    "sends": "System calls that carried verdicts.",
    "receives": "System calls that read messages.",
    "overruns": "Times that the kernel reported lost messages.",
    "truncated": "Packets that were dispatched cut short.",
    "orphaned": "Packets for a queue that is gone.",
    "verdict_errors": "Verdicts that the kernel refused.",
    "defaulted": "Packets that got their queue's default verdict.",
}


class Collector(_Collector):
    """Collects the kernel's table of queues and the counters of handles.

    ``prometheus_client.REGISTRY.register(Collector({"dns": handle}))`` adds them to the metrics of
    the program. They are read when the registry is; it may do so in any thread. Nothing waits.

    Args:
        handles: Handles by the values of the label ``handle``, each a ``str``. The metrics are
            named ``nfqueue_handle_`` and a field of ``HandleStats``. A closed handle keeps its last
            values.
        table: Whether there are also the metrics of ``queue_status()``, for all queues of the
            calling thread's network namespace: ``nfqueue_waiting_packets``,
            ``nfqueue_packets_total``, ``nfqueue_dropped_packets_total``. Only root may read that
            table. The label ``queue`` is a queue's number, and ``reason`` is ``queue_full`` or
            ``buffer_full``.

    Raises ``PermissionError`` if the table is wanted, and the kernel hides it.

    >>> registry = prometheus_client.CollectorRegistry()
    >>> registry.register(metrics.Collector({"filter": handle}, table=False))
    >>> registry.get_sample_value("nfqueue_handle_packets_total", {"handle": "filter"})
    1
    """

    def __init__(
        self, handles: Mapping[str, nfq.NetfilterQueueHandle] | None = None, *, table: bool = True
    ) -> None:
        self._handles = dict(handles or {})
        self._table = table
        if table:
            nfq.queue_status()  # fails here, and not when somebody reads the metrics

    def collect(self) -> Iterator[Metric]:
        """Reads everything; for the registry."""
        if self._table:
            yield from _of_queues(nfq.queue_status())
        if self._handles:
            yield from _of_handles({name: each.stats() for name, each in self._handles.items()})

    def describe(self) -> Iterator[Metric]:
        """The metrics without values; for the registry."""
        if self._table:
            yield from _of_queues([])
        if self._handles:
            yield from _of_handles({})


def _of_queues(table: list[nfq.QueueStatus]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "nfqueue_waiting_packets", "Packets that wait for their verdict.", labels=["queue"]
    )
    packets = CounterMetricFamily(
        "nfqueue_packets", "Packets since the queue was bound.", labels=["queue"]
    )
    dropped = CounterMetricFamily(
        "nfqueue_dropped_packets",
        "Packets dropped because the queue or its socket's receive buffer was full.",
        labels=["queue", "reason"],
    )
    for status in table:
        queue = str(status.queue)
        waiting.add_metric([queue], status.waiting)
        packets.add_metric([queue], status.id_sequence)
        dropped.add_metric([queue, "queue_full"], status.queue_dropped)
        dropped.add_metric([queue, "buffer_full"], status.user_dropped)
    yield from (waiting, packets, dropped)


def _of_handles(stats: Mapping[str, nfq.HandleStats]) -> Iterator[Metric]:
    for field, meaning in _STATS.items():
        family = CounterMetricFamily(f"nfqueue_handle_{field}", meaning, labels=["handle"])
        for name, counters in stats.items():
            family.add_metric([name], getattr(counters, field))
        yield family
