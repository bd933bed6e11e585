# SPDX-License-Identifier: GPL-2.0-or-later
"""One consumer in a network namespace of its own, and the four things that are measured on it.

`Burst`: CPU time and time for packets that were all queued before the consumer was let go.
`PingPong`: the time of one datagram through the queue, nothing else being there.
`Stream`: the throughput of one TCP connection that is forwarded.
`Download`: how many packets of a TCP connection over loopback are queued, and its throughput.

All have `measure`, which takes one round's figures, and `close`. Namespaces and rules come from
tests/support/netns.py.
"""

import contextlib
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import netns

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SO_RCVTIMEO = 20
SOCKET_BUFFER = 1 << 29
TIMEOUT = 60.0  # seconds until a consumer counts as stuck
POLL = 0.0005  # seconds between two looks at the kernel's table, at least
QUIET = 0.002  # seconds after which a consumer waits again
UDP_HEADERS = 28  # of IPv4 and UDP

Figures = dict[str, float]


class MeasurementError(RuntimeError):
    """A consumer died, got stuck, or lost packets: there is no figure."""


class Subject(Protocol):
    """Something that is measured, round by round."""

    def measure(self) -> Figures:
        """One round's figures."""

    def close(self) -> None:
        """Ends what it has started."""


@contextlib.contextmanager
def processors(*, ours: bool) -> Iterator[None]:
    """Binds what starts in the block to the last processor, or to all others.

    The sender has one for itself, so that a packet is always made on another processor than the
    one that consumes it, and consumers do not share theirs with the sender.
    """
    before = os.sched_getaffinity(0)
    last = {max(before)}
    os.sched_setaffinity(0, last if ours else (before - last) or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class QueueState(NamedTuple):
    """What the kernel tells of the consumer's queues."""

    waiting: int
    dropped: int  # for want of room, in the queue or in the receive buffer
    sequence: int  # how many packets have been queued


class Consumer:
    """A consumer in the calling thread's namespace, its queues bound: a process, or some."""

    def __init__(self, command: list[str], place: contextlib.AbstractContextManager[None]) -> None:
        # Whatever ends this program ends the consumer.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with place:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        self._table = os.open("/proc/thread-self/net/netfilter/nfnetlink_queue", os.O_RDONLY)
        try:
            self._await_ready()
        except MeasurementError:
            self.close()
            raise
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._children = [Path(f"/proc/{pid}") for pid in children.read_text().split()]

    def _await_ready(self) -> None:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], TIMEOUT)[0]:
            raise MeasurementError("it does not start")
        if output.readline() != "ready\n":
            raise self._died()

    def _died(self) -> MeasurementError:
        assert self._process.stderr is not None
        self._process.kill()
        last = self._process.stderr.read().strip().rpartition("\n")[2]
        return MeasurementError(f"it ended: {last or 'without a message'}")

    @property
    def state(self) -> QueueState:
        """What the kernel tells of them now. Looking at it takes no lock of the queues'."""
        lines = os.pread(self._table, 4096, 0).splitlines()
        if not lines:
            raise self._died()
        queues = [[int(field) for field in line.split()] for line in lines]
        return QueueState(
            waiting=sum(queue[2] for queue in queues),
            dropped=sum(queue[5] + queue[6] for queue in queues),
            sequence=sum(queue[7] for queue in queues),
        )

    def await_waiting(self, count: int) -> None:
        """Returns once only so many packets wait for their verdict.

        Looking takes time from consumers that have all processors: so it sleeps half of the time
        that they will probably take, but no longer than it has waited: at first that is a guess.
        """
        start, first = time.monotonic(), self.state.waiting
        while (waiting := self.state.waiting) != count:
            elapsed = time.monotonic() - start
            if elapsed > TIMEOUT:
                raise MeasurementError(f"{waiting} packets got no verdict")
            done = first - waiting
            left = elapsed * (waiting - count) / done if done > 0 else 0
            time.sleep(max(min(left / 2, elapsed), POLL))

    def hold(self) -> None:
        """Stops all threads, and returns when they have stopped."""
        # Not Popen's send_signal, which would take the end of the process away from waitid.
        os.killpg(self._process.pid, signal.SIGSTOP)
        stopped = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED)
        if stopped is None or stopped.si_code != os.CLD_STOPPED:
            raise self._died()
        for child in self._children:
            while ") T " not in (child / "stat").read_text():
                time.sleep(POLL)

    def release(self) -> None:
        """Lets it go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def cpu_time(self) -> int:
        """Nanoseconds that all threads have run, in user space and in the kernel."""
        return sum(
            int((task / "schedstat").read_text().split()[0])
            for process in (Path(f"/proc/{self._process.pid}"), *self._children)
            for task in (process / "task").iterdir()
        )

    def close(self) -> None:
        """Ends all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._table)
        for file in (self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()


class Datagrams:
    """UDP over loopback in the calling thread's namespace, through a queue on its way out.

    Accepted datagrams are delivered to a socket that has room
    for all, and is read between rounds.
    """

    def __init__(self, size: int, queues: int = 1) -> None:
        self._data = bytes(size - UDP_HEADERS)
        self._receiver = self._socket(netns.PORT)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
        # Unlike settimeout() it costs no system call.
        seconds = int(TIMEOUT).to_bytes(8, "little") + bytes(8)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVTIMEO, seconds)
        self._senders = [self._sender(number) for number in range(1, queues + 1)]

    def _sender(self, queue: int) -> socket.socket:
        port = netns.QUEUED_PORT - queue
        netns.queue_rule(queue, f"-p udp --sport {port}")
        sender = self._socket(port)
        # What waits in the queue counts as not yet sent.
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER)
        sender.connect(("127.0.0.1", netns.PORT))
        return sender

    @staticmethod
    def _socket(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        return sock

    def send(self, count: int) -> None:
        """Sends so many, each queue its part."""
        for sender in self._senders:
            send, data = sender.send, self._data
            for _ in range(count // len(self._senders)):
                send(data)

    def arrived(self) -> int:
        """How many have arrived since the last look."""
        recv, buffer, count = self._receiver.recv_into, bytearray(1), 0
        with contextlib.suppress(BlockingIOError):
            while True:
                recv(buffer, 1, socket.MSG_DONTWAIT)
                count += 1
        return count

    def round_trip(self) -> int:
        """Nanoseconds from sending one to having it."""
        start = time.perf_counter_ns()
        self._senders[0].send(self._data)
        self._receiver.recv(1)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        """Closes the sockets."""
        for sock in (self._receiver, *self._senders):
            sock.close()


class Burst:
    """A consumer that is held until all packets of a round are queued."""

    def __init__(
        self,
        command: list[str],
        packets: int,
        size: int,
        *,
        held: int = 0,
        accepted: bool = True,
        queues: int = 1,
        place: contextlib.AbstractContextManager[None] | None = None,
    ) -> None:
        self._packets, self._accepted = packets, accepted
        with contextlib.ExitStack() as stack:
            namespace = stack.enter_context(contextlib.closing(netns.Namespace()))
            with namespace:
                self._datagrams = stack.enter_context(contextlib.closing(Datagrams(size, queues)))
                consumer = Consumer(command, place or processors(ours=False))
                self._consumer = stack.enter_context(contextlib.closing(consumer))
            self._datagrams.send(held)
            self._close = stack.pop_all().close

    def measure(self) -> Figures:
        """Microseconds of CPU time a packet, and packets a second."""
        consumer, packets = self._consumer, self._packets
        consumer.hold()
        before = consumer.state
        with processors(ours=True):
            self._datagrams.send(packets)
        self._check_queued(before)
        cpu, start = consumer.cpu_time(), time.perf_counter()
        consumer.release()
        consumer.await_waiting(before.waiting)
        elapsed = time.perf_counter() - start
        time.sleep(QUIET)
        consumer.hold()
        cpu = consumer.cpu_time() - cpu
        consumer.release()
        arrived = self._datagrams.arrived()
        if arrived != (packets if self._accepted else 0):
            raise MeasurementError(f"{arrived} of {packets} packets have arrived")
        return {"cpu": cpu / packets / 1000, "rate": packets / elapsed}

    def _check_queued(self, before: QueueState) -> None:
        now = self._consumer.state
        queued, dropped = now.waiting - before.waiting, now.dropped - before.dropped
        if queued != self._packets or dropped or now.sequence - before.sequence != queued:
            raise MeasurementError(f"{queued} of {self._packets} packets queued, {dropped} lost")

    def close(self) -> None:
        """Ends the consumer and gives the namespace up."""
        self._close()


class PingPong:
    """A consumer that gets one datagram after the other.

    Across processors most of the time goes into waking the other one; on a single processor what
    the consumer does shows.
    """

    def __init__(self, command: list[str], count: int, *, one_processor: bool) -> None:
        self._count = count
        with contextlib.ExitStack() as stack:
            namespace = stack.enter_context(contextlib.closing(netns.Namespace()))
            with namespace:
                self._datagrams = stack.enter_context(contextlib.closing(Datagrams(64)))
                consumer = Consumer(command, processors(ours=one_processor))
                stack.enter_context(contextlib.closing(consumer))
            self._close = stack.pop_all().close

    def measure(self) -> Figures:
        """Percentiles of the time through the queue, in microseconds."""
        with processors(ours=True):
            times = [self._datagrams.round_trip() for _ in range(self._count)]
        percentiles = statistics.quantiles(times, n=100)
        return {"p50": percentiles[49] / 1000, "p99": percentiles[98] / 1000}

    def close(self) -> None:
        """Ends the consumer and gives the namespace up."""
        self._close()


class Stream:
    """iperf3's TCP connection between two namespaces, and a router between them that queues it."""

    def __init__(self, command: list[str], seconds: int) -> None:
        self._seconds = seconds
        with contextlib.ExitStack() as stack:
            self._client, router, self._server = (
                stack.enter_context(contextlib.closing(netns.Namespace())) for _ in range(3)
            )
            with router:
                netns.sysctl("ipv4/ip_forward", 1)
                for number, end in ((1, self._client), (2, self._server)):
                    self._connect(number, end)
                netns.queue_rule(match="-p tcp", chain="FORWARD", table="filter")
                self._consumer = stack.enter_context(
                    contextlib.closing(Consumer(command, processors(ours=False)))
                )
            self._close = stack.pop_all().close

    @staticmethod
    def _connect(number: int, end: netns.Namespace) -> None:
        """A network of the router's and the end's."""
        netns.veth(f"device{number}", "device", end)
        netns.run(f"ip address add 10.{number}.0.1/24 dev device{number}")
        with end:
            netns.run(f"ip address add 10.{number}.0.2/24 dev device")
            netns.run(f"ip route add default via 10.{number}.0.1")

    def measure(self) -> Figures:
        """Megabits a second, and microseconds of CPU time a packet."""
        with self._server:
            server = subprocess.Popen(
                ["iperf3", "--server", "--one-off", "--forceflush"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        with server:
            try:
                return self._measure(server)
            finally:
                server.kill()

    def _measure(self, server: "subprocess.Popen[str]") -> Figures:
        assert server.stdout is not None
        while "Server listening" not in (line := server.stdout.readline()):
            if not line:
                raise MeasurementError("iperf3 does not listen")
        cpu, sequence = self._consumer.cpu_time(), self._consumer.state.sequence
        with self._client:
            client = subprocess.run(
                ["iperf3", "--json", "--client", "10.2.0.2", "--time", str(self._seconds)],
                check=False,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
        cpu = self._consumer.cpu_time() - cpu
        report = json.loads(client.stdout)
        if "error" in report:
            raise MeasurementError(report["error"])
        return {
            "rate": report["end"]["sum_received"]["bits_per_second"] / 1e6,
            "cpu": cpu / (self._consumer.state.sequence - sequence) / 1e3,
        }

    def close(self) -> None:
        """Ends the consumer and gives the namespaces up."""
        self._close()


class Download:
    """A TCP connection over loopback, whose packets some rules queue until one has a mark."""

    def __init__(self, command: list[str], rules: str, length: int) -> None:
        self._data = bytes(length)
        with contextlib.ExitStack() as stack:
            self._namespace = stack.enter_context(contextlib.closing(netns.Namespace()))
            with self._namespace, tempfile.NamedTemporaryFile("w") as file:
                netns.run("ip link set lo mtu 1500")
                file.write(rules)
                file.flush()
                netns.run(f"iptables-restore {file.name}")
                self._listener = stack.enter_context(
                    socket.create_server(("127.0.0.1", netns.PORT))
                )
                self._consumer = stack.enter_context(
                    contextlib.closing(Consumer(command, processors(ours=False)))
                )
            self._close = stack.pop_all().close

    def measure(self) -> Figures:
        """Packets that were queued, and megabytes a second."""
        before = self._consumer.state.sequence
        sent = netns.background(self._send)
        start = time.perf_counter()
        with (
            self._namespace,
            socket.create_connection(("127.0.0.1", netns.PORT), TIMEOUT) as connection,
        ):
            received = sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))
        elapsed = time.perf_counter() - start
        sent.result(TIMEOUT)
        if received != len(self._data):
            raise MeasurementError(f"{received} of {len(self._data)} bytes have arrived")
        queued = self._consumer.state.sequence - before
        return {"queued": queued, "rate": received / elapsed / 1e6}

    def _send(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.sendall(self._data)

    def close(self) -> None:
        """Ends the consumer and gives the namespace up."""
        self._close()
