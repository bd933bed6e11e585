# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/metrics.md: Prometheus reads what happens, OpenTelemetry gets it."""

import http.client
import signal
from pathlib import Path

import otlp
import pytest
from netns import TIMEOUT, UdpPair
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client.parser import text_string_to_metric_families
from recipes import recipe
from statuses import visible

HOST, PORT = "127.0.0.1", 9469  # where Prometheus asks


def traffic(udp: UdpPair) -> None:
    udp.send(b"fine", b"forbidden", b"fine too")
    assert [udp.recv(), udp.recv()] == [b"fine", b"fine too"]


def scrape() -> dict[tuple[str, ...], float]:
    """What Prometheus reads: names and labels, and their values."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=TIMEOUT)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus(tmp_path: Path) -> None:
    """Prometheus finds decisions, the handle's counters, and for root the kernel's."""
    with recipe("metrics", tmp_path, "metered.py", "metered.v4") as program, UdpPair() as udp:
        traffic(udp)
        # The last packet may arrive before it is counted.
        program.wait_until(lambda: scrape()["filter_decisions_total", "NF_ACCEPT"] == 2)
        samples = scrape()
        assert samples["filter_decisions_total", "NF_DROP"] == 1
        assert samples["filter_decision_seconds_count",] == 3
        assert samples["nfqueue_handle_packets_total", "filter"] == 3
        assert samples.get(("nfqueue_packets_total", "1")) == (3 if visible() else None)
        program.end(signal.SIGTERM)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_opentelemetry(tmp_path: Path, signum: signal.Signals) -> None:
    """A program that ends has sent all of its metrics."""
    with (
        otlp.collector() as exports,
        recipe("metrics", tmp_path, "metered_otel.py", "metered.v4") as program,
        UdpPair() as udp,
    ):
        traffic(udp)
        program.end(signum)
    request = ExportMetricsServiceRequest.FromString(exports[-1])
    (scope,) = request.resource_metrics[0].scope_metrics
    metrics = {metric.name: metric for metric in scope.metrics}
    decisions = metrics["filter.decisions"].sum.data_points
    assert sorted(point.as_int for point in decisions) == [1, 2]
    assert metrics["nfqueue.handle.packets"].sum.data_points[0].as_int == 3
    assert metrics["filter.decision.duration"].histogram.data_points[0].count == 3
