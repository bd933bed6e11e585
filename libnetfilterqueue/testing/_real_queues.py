# SPDX-License-Identifier: GPL-2.0-or-later
"""The queues of the real kernel, and what is known of them and of their packets.

Programs' messages are passed on to nfnetlink_queue, one by one, and its own to the programs. It
executes a message within the call that sends it. What has become of a packet is therefore known
once that returns: it has come to a queue, has passed all rules, or is dropped.

The fake kernel's rules tell the reason, and what is not told: how full a queue is.
"""

import contextlib
import errno

from libnetfilterqueue.constants import QueueFlag, Verdict
from libnetfilterqueue.testing import _messages as nl
from libnetfilterqueue.testing._attributes import Attributes
from libnetfilterqueue.testing._queues import Instance, Queues, Refused, Send, up_to
from libnetfilterqueue.testing._real_namespace import (
    NETLINK_NETFILTER,
    Namespace,
    Netlink,
    UnavailableError,
    errors_in,
)
from libnetfilterqueue.testing._real_observer import Observer
from libnetfilterqueue.testing._real_rules import LAST_NUMBER, Rules
from libnetfilterqueue.testing._real_sender import Sender, check
from libnetfilterqueue.testing._rules import plain_rule
from libnetfilterqueue.testing._skb import Skb


class RealQueues(Queues):
    """All queues of a namespace of its own. Raises UnavailableError."""

    def __init__(self, send: Send) -> None:
        super().__init__(send, 1)
        with contextlib.ExitStack() as stack:
            try:
                self._open(stack)
            except UnavailableError:
                raise
            except OSError as error:
                raise UnavailableError(f"the system forbids it: {error}") from error
            self._stack = stack.pop_all()
        self._sockets: dict[int, Netlink] = {}
        self._arrivals: list[tuple[int, bytes]] = []  # messages of packets

    def _open(self, stack: contextlib.ExitStack) -> None:
        self._namespace = stack.enter_context(contextlib.closing(Namespace()))
        self._rules = stack.enter_context(contextlib.closing(Rules(self._netlink())))
        self._observer = stack.enter_context(contextlib.closing(Observer(self._netlink())))
        self._sender = stack.enter_context(contextlib.closing(Sender(self._namespace)))

    def _netlink(self) -> Netlink:
        return self._namespace.netlink(NETLINK_NETFILTER)

    def attach(self, portid: int) -> None:
        """A handle has a socket of its own in the kernel."""
        self._sockets[portid] = self._netlink()

    def release(self, portid: int) -> None:
        """It ends with the handle."""
        self._sockets.pop(portid).close()
        super().release(portid)

    def close(self) -> None:
        """The namespace ends."""
        for netlink in self._sockets.values():
            netlink.close()
        self._stack.close()

    def _ask(self, portid: int, request: bytes) -> None:
        """Has the kernel execute a message. Raises Refused."""
        try:
            datagrams = self._sockets[portid].ask(request)
        except OSError as failed:
            raise Refused(failed.errno or errno.EIO) from failed
        self._note_arrivals(portid, datagrams)
        for error in filter(None, errors_in(datagrams)):
            raise Refused(error)

    def _note_arrivals(self, portid: int, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            for message in nl.messages_in(datagram):
                if nl.Header.read(message).kind == nl.MSG_PACKET:
                    self._arrivals.append((portid, message))

    # Configuration

    def configure(self, portid: int, request: bytes) -> None:
        """NFQNL_MSG_CONFIG."""
        if nl.Header.read(request).number == LAST_NUMBER:
            raise Refused(errno.EPERM)  # the observer's
        self._ask(portid, request)
        with contextlib.suppress(Refused):
            super().configure(portid, request)

    # Packets

    def take_over(self, captured: Attributes) -> Attributes:
        """The kernel has its own time, and its own idea of a packet's length."""
        return {}

    def check(self, packet: Skb) -> None:
        """Raises ValueError for a packet that the kernel would not send as it is."""
        plain_rule(packet.rules)
        check(packet)

    def apply_rules(self, packet: Skb) -> None:
        """The packet is sent."""
        self._rules.use(plain_rule(packet.rules), packet.hook)
        self._sender.send(packet)
        if not self._arrives(packet):
            super().apply_rules(packet)
            self._compare(packet)

    def _arrives(self, packet: Skb) -> bool:
        """Whether it has come to a queue: its message is passed on."""
        for portid, netlink in self._sockets.items():
            self._note_arrivals(portid, netlink.read())
        if not self._arrivals:
            return False
        self._take_in(packet, *self._arrivals.pop())
        return True

    def _take_in(self, packet: Skb, portid: int, message: bytes) -> None:
        queue = self.bound[nl.Header.read(message).number]
        attributes = nl.attributes_of(message)
        packet.number = queue.number
        packet.id = queue.id_sequence = nl.read_packet_id(attributes)
        packet.passed = packet.why = None
        if nl.NFQA_CAP_LEN not in attributes:  # else it is cut
            packet.payload = attributes.get(nl.NFQA_PAYLOAD, packet.payload)
        if self._send(portid, message):
            queue.waiting[packet.id] = packet
        else:
            self._lose(queue, packet)

    def _lose(self, queue: Instance, packet: Skb) -> None:
        """Gives back what the handle's receive buffer has no room for."""
        fail_open = bool(queue.flags & QueueFlag.NFQA_CFG_F_FAIL_OPEN)
        self._give(queue, packet, Verdict.NF_ACCEPT if fail_open else Verdict.NF_DROP)
        queue.user_dropped += not fail_open
        packet.id = None
        packet.settle(fail_open, "the handle's receive buffer was full")
        self._compare(packet)

    def _give(self, queue: Instance, packet: Skb, verdict: Verdict) -> None:
        self._ask(queue.portid, nl.verdict_message(queue.number, packet.id or 0, verdict))

    def _deliver(self, queue: Instance, packet: Skb) -> None:
        packet.settle(False, "the kernel dropped it")

    def _compare(self, packet: Skb) -> None:
        """Whether a packet has passed is what the kernel says, and so is all that it is now."""
        seen = self._observer.read()
        if seen is None and packet.passed:
            packet.settle(False, "the kernel dropped it, and should have let it pass")
        elif seen is not None:
            if not packet.passed:
                packet.settle(True, "the kernel let it pass")
            packet.payload = seen.payload or packet.payload
            packet.mark, packet.priority = seen.mark, seen.priority

    def forget(self, packet: Skb) -> None:
        """Drops a packet that waits: the kernel keeps none that has a verdict."""
        queue = self.bound.get(packet.number)
        if queue is not None and queue.waiting.get(packet.id or 0) is packet:
            self._give(queue, packet, Verdict.NF_DROP)
        super().forget(packet)

    # Verdicts

    def _decide_one(self, queue: Instance, verdict: nl.SentVerdict, request: bytes) -> None:
        packet = queue.waiting.get(verdict.packet_id)
        if packet is None:
            self._ask(queue.portid, request)
            return
        self._execute(queue, packet, verdict, request)

    def _decide_batch(self, queue: Instance, verdict: nl.SentVerdict, request: bytes) -> None:
        ids = up_to(verdict.packet_id, queue.waiting)
        if not ids:
            self._ask(queue.portid, request)
        # One after the other, each with its own outcome; none is left in front of the next one.
        for packet_id in ids:
            own = nl.with_packet_id(request, packet_id)
            self._execute(queue, queue.waiting[packet_id], verdict, own)

    def _execute(
        self, queue: Instance, packet: Skb, verdict: nl.SentVerdict, request: bytes
    ) -> None:
        if verdict.verdict == Verdict.NF_REPEAT:
            self._rules.use(plain_rule(packet.rules), packet.hook)
        self._ask(queue.portid, request)
        del queue.waiting[packet.id or 0]
        packet.take(verdict)
        if not self._arrives(packet):
            self._reinject(packet, verdict)
            self._compare(packet)

    def _repeat(self, packet: Skb) -> None:
        super().apply_rules(packet)
