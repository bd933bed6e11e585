# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue metrics`, and the collector behind it."""

import json
import re
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import prometheus_client
import pytest
from netns import TIMEOUT, UdpPair
from programs import Program, command_line
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from queues import Handle, Packet, accept, process_until
from statuses import visible

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main
from libnetfilterqueue.metrics import Collector
from libnetfilterqueue.testing import FakeKernel

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
LISTENING = r"Listening on http://127\.0\.0\.1:(\d+)/metrics; Ctrl-C ends\.\n"
OF_FULL = {
    'nfqueue_waiting_packets{queue="1"}': 3,
    'nfqueue_packets_total{queue="1"}': 3,
    'nfqueue_dropped_packets_total{queue="1",reason="queue_full"}': 2,
    'nfqueue_dropped_packets_total{queue="1",reason="buffer_full"}': 0,
}


def values(text: str) -> dict[str, float]:
    """The samples of a text in OpenMetrics by their names and labels."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    return {written(sample.name, sample.labels): sample.value for sample in samples}


def written(name: str, labels: dict[str, str]) -> str:
    """A metric as Prometheus writes it."""
    pairs = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return f"{name}{{{pairs}}}"


def collected(collector: Collector) -> dict[str, float]:
    """What a program's registry says with this collector in it."""
    registry = CollectorRegistry()
    registry.register(collector)
    return values(generate_latest(registry).decode())  # type: ignore[no-untyped-call]


def get(url: str, **headers: str) -> str:
    """What a server answers."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), None, TIMEOUT) as got:
        return str(got.read(), "utf-8")


@pytest.fixture
def full(handle: Handle, udp: UdpPair) -> Handle:
    """A handle with a queue in which 3 packets wait, and that was full when 2 more came."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, maxlen=3)
    udp.send(*[b"data"] * 5)
    process_until(handle, lambda: len(packets) == 3)
    return handle


def test_printed(full: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """metrics prints what the kernel reports; where it may not, a line says so."""
    status = main(["metrics"])
    output, errors = capsys.readouterr()
    if visible():
        assert (status, errors, values(output)) == (0, "", OF_FULL)
    else:
        assert (status, output) == (1, "")
        assert re.fullmatch(r"libnetfilterqueue metrics: queue_status\(\).*root.*\n", errors)


def test_no_queue(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a queue there are no values, but all metrics are described."""
    assert main(["metrics"]) == 0
    output = capsys.readouterr().out
    assert output.count("# HELP ") == output.count("# TYPE ") == 3
    assert output.endswith("# EOF\n")
    assert values(output) == {}


def test_handles(nfqueue: FakeKernel) -> None:
    """A program's registry has the counters of its handles, each by its own name."""
    with nfq.open() as busy, nfq.open() as idle:
        busy.create_queue(1, accept)
        nfqueue.enqueue_all([b"data"] * 3)
        busy.process()
        collector = Collector({"busy": busy, "idle": idle}, table=False)
        found = collected(collector)
        for name, stats in (("busy", busy.stats()), ("idle", idle.stats())):
            for field, count in stats._asdict().items():
                assert found.pop(f'nfqueue_handle_{field}_total{{handle="{name}"}}') == count
        assert busy.stats().packets == 3
        assert found == {}
    assert collected(collector)['nfqueue_handle_packets_total{handle="busy"}'] == 3  # closed


@pytest.mark.nfqueue(allow_undecided=True)
def test_table_in_program(nfqueue: FakeKernel) -> None:
    """The kernel's table comes beside the handles, and is read whenever the registry is."""
    with nfq.open() as handle:
        collector = Collector({"only": handle})
        name = 'nfqueue_packets_total{queue="1"}'
        assert name not in collected(collector)
        handle.create_queue(1, accept)
        nfqueue.enqueue(b"data")
        found = collected(collector)
        assert found[name] == 1
        assert 'nfqueue_handle_packets_total{handle="only"}' in found


def test_hidden_table(nfqueue: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is hidden is an error at once, unless it is not wanted."""

    def refuse() -> list[nfq.QueueStatus]:
        raise PermissionError

    monkeypatch.setattr(nfq, "queue_status", refuse)
    with pytest.raises(PermissionError):
        Collector()
    assert collected(Collector(table=False)) == {}


def listening(program: Program) -> str:
    """The address at which a program says that it answers."""
    program.wait_until(lambda: re.fullmatch(LISTENING, program.errors))
    match = re.fullmatch(LISTENING, program.errors)
    assert match is not None
    return f"127.0.0.1:{match[1]}"


@pytest.mark.table
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_served(full: Handle, tmp_path: Path, signum: signal.Signals, status: int) -> None:
    """With --listen it answers in the format that is asked for, until a signal ends it."""
    with command_line(tmp_path, "metrics", "--listen", "127.0.0.1:0") as program:
        url = f"http://{listening(program)}/metrics"
        assert values(get(url, **OPEN_METRICS)) == OF_FULL
        assert 'nfqueue_packets_total{queue="1"} 3.0' in get(url).splitlines()
        program.end(signum, status)
    assert program.output == ""


def test_taken_port(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken is an error, which names the option."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["metrics", "--listen", str(port)]) == 1
    output, errors = capsys.readouterr()
    message = f"--listen 127.0.0.1:{port}: Address already in use"
    assert (output, errors) == ("", f"libnetfilterqueue metrics: {message}\n")


# Read by what it is meant for.


@pytest.mark.table
@pytest.mark.slow
@pytest.mark.prometheus
def test_read_by_prometheus(full: Handle, tmp_path: Path) -> None:
    """Prometheus scrapes it, and knows the values by their names."""
    with command_line(tmp_path, "metrics", "--listen", "127.0.0.1:0") as program:
        config = tmp_path / "prometheus.yml"
        jobs = [{"job_name": "queues", "static_configs": [{"targets": [listening(program)]}]}]
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        (tmp_path / "server").mkdir()
        server = Program(
            tmp_path / "server",
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                "--web.listen-address=127.0.0.1:9090",
            ],
        )
        try:
            scraped = {name: [value] for name, value in OF_FULL.items()}
            server.wait_for("Server is ready to receive web requests")
            server.wait_until(lambda: {name: queried(name) for name in OF_FULL} == scraped)
        finally:
            server.kill()


def queried(expression: str) -> list[float]:
    """The values that Prometheus has for an expression."""
    query = urllib.parse.urlencode({"query": expression})
    answer = json.loads(get(f"http://127.0.0.1:9090/api/v1/query?{query}"))
    return [float(result["value"][1]) for result in answer["data"]["result"]]


@pytest.mark.table
@pytest.mark.slow
@pytest.mark.prometheus
def test_read_by_node_exporter(
    full: Handle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node exporter passes on a file of what is printed."""
    assert main(["metrics"]) == 0
    (tmp_path / "queues.prom").write_text(capsys.readouterr().out)
    server = Program(
        tmp_path,
        [
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={tmp_path}",
            "--web.listen-address=127.0.0.1:9100",
        ],
    )
    try:
        server.wait_for("Listening on")
        lines = get("http://127.0.0.1:9100/metrics").splitlines()
    finally:
        server.kill()
    assert {f"{name} {value}" for name, value in OF_FULL.items()} <= set(lines)
    assert "node_textfile_scrape_error 0" in lines


@pytest.mark.slow
@pytest.mark.prometheus
def test_checked_by_promtool(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and help texts are as Prometheus wants them."""
    with nfq.open() as handle:
        handle.create_queue(1, accept)
        registry = CollectorRegistry()
        registry.register(Collector({"only": handle}))
        text = prometheus_client.generate_latest(registry).decode()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
