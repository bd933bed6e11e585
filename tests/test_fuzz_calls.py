# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls in any order, in and outside of callbacks, against a model of what they promise.

Which packets have had their verdict and which one it was, each once, what raises what, and the
counters. On a played kernel, and on real packets; `./dev fuzz` goes on for as long as it is told.
"""

import contextlib
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flows import sender
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger import Due, Ledger, Waiting, newer
from netns import UdpPair, queue_rule
from played_kernel import (
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    PlayedKernel,
    aligned,
    error_message,
    packet_message,
)
from queues import Packet, Queue, data_of
from reading import TEARDOWN

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
EOPNOTSUPP, ENOENT, EPERM = 95, 2, 1
NUMBERS = (0, 1, 2)
PORTS = {number: 9000 + number for number in NUMBERS}  # whose datagrams pass through which queue
HEADERS = bytes(28)  # in front of a datagram's data
MALFORMED = b"\xff" * 20
ACCEPT = Due(nfq.NF_ACCEPT)


class Failure(Exception):  # noqa: N818 (it stands for any)
    """What callbacks raise here."""

    def __init__(self, tag: int) -> None:
        super().__init__(tag)
        self.tag = tag


# What happens


@dataclass(frozen=True)
class Step:
    """A call with its arguments."""

    call: str
    due: Due = ACCEPT
    number: int = 0


@dataclass(frozen=True)
class Plan:
    """What a packet's callback does."""

    steps: tuple[Step, ...] = ()
    keeps: bool = False
    fails: bool = False


dues = st.builds(
    Due,
    st.sampled_from([*nfq.Verdict, nfq.NF_QUEUE_NR(7, bypass=True)]),
    st.none() | st.integers(0, 1),
    st.none() | st.just(b"payload"),
)
numbers = st.sampled_from(NUMBERS)
counts = st.sampled_from([64, 64, 1, 2, 0])
rarely = st.sampled_from([False] * 7 + [True])
often = st.builds(Step, st.just("verdict"), dues)
usual = ["process", "hand_in", "flush", "answer", "batch", "configure"]
seldom = st.builds(
    Step,
    st.sampled_from([*usual * 3, "destroy", "rebind", "create", "close"]),
    dues,
    st.integers(0, 5),
)
plans = st.builds(
    Plan,
    st.lists(often | seldom, max_size=3).map(tuple),
    st.booleans(),
    rarely,
)


# What is known


@dataclass
class Binding:
    """A queue from its creation until it is destroyed."""

    number: int
    queue: Queue
    default: int
    bound: bool = True
    last_id: int = 0  # of the packets that the kernel has queued
    highest: int = 0  # of those that were dispatched
    refusals: int = 0  # of verdicts, that had been read when it was created
    sent: list["Sent"] = field(default_factory=list, repr=False)


@dataclass(eq=False)
class Sent(Waiting):
    """A packet."""

    tag: int = 0  # tells it from all others
    binding: Binding | None = field(default=None, repr=False)
    plan: Plan = Plan()
    state: str = "on its way"  # then active, kept, executed; settled with its queue
    running: bool = False  # its callback
    recorded: Due | None = None
    covered: Due | None = None  # what it is to get when it is dispatched
    packet: Packet | None = None  # as far as it is kept

    @property
    def undecided(self) -> bool:
        return self.state in ("active", "kept")


@dataclass
class Frame:
    """A call that dispatches."""

    count: int = 0
    failures: list[int] = field(default_factory=list)


class Calls(RuleBasedStateMachine):
    """The model, and the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[int, Sent] = {}
        self.unraisable: list[object] = []
        self.resources = contextlib.ExitStack()
        patch = self.resources.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "unraisablehook", self._note)
        self.open()

    def open(self) -> None:
        self.handle = self.open_handle()
        self.autoflush = True
        self.closed = False
        self.bindings: dict[int, Binding] = {}
        self.kept: list[Sent] = []
        self.strange: list[Sent] = []  # in the hands of another reader
        self.held: list[Sent] = []  # whose verdicts may wait for a flush
        self.frames: list[Frame] = []
        self.expected_unraisable: list[object] = []
        self.refused: list[int] = []  # errors of verdicts, in the order of their reports
        self.unraisable.clear()
        self.packets = self.verdicts = self.defaulted = self.orphaned = 0

    def _note(self, unraisable: Any) -> None:
        value = unraisable.exc_value
        self.unraisable.append(value.tag if isinstance(value, Failure) else repr(value))

    # What the machines differ in

    def open_handle(self) -> nfq.NetfilterQueueHandle:
        raise NotImplementedError

    def queue(self, sent: Sent) -> None:
        """The kernel queues a packet, and sends it to the handle."""
        raise NotImplementedError

    def read(self) -> None:
        """Sees what has become of the packets."""
        raise NotImplementedError

    def right(self, due: Due) -> Due:
        """A verdict whose effect can be seen."""
        return due

    # The model

    def decide(self, sent: Sent, due: Due, *, executed: bool = True) -> None:
        """The packet's verdict is that."""
        sent.due = due
        sent.state = "executed" if executed else "settled"

    def decide_default(self, sent: Sent, *, executed: bool = True) -> None:
        assert sent.binding is not None
        self.decide(sent, Due(sent.binding.default), executed=executed)
        self.defaulted += 1

    def callback(self, packet: Packet) -> None:
        (tag,) = struct.unpack("!I", data_of(packet))
        sent = self.tags[tag]
        self.frames[-1].count += 1
        self.packets += 1
        self.begin(sent, packet)
        for step in sent.plan.steps:
            self.step(step, sent, packet)
        self.end(sent, packet)
        if sent.plan.fails:
            self.frames[-1].failures.append(tag)
            raise Failure(tag)

    def begin(self, sent: Sent, packet: Packet) -> None:
        binding = sent.binding
        assert binding is not None
        assert sent.state == "on its way"
        assert binding.bound
        assert packet.queue is binding.queue
        assert sent.packet_id == packet.id
        if newer(packet.id, binding.highest):
            binding.highest = packet.id
        sent.running = True
        sent.state = "active"
        if sent.due is None and sent.covered is not None:
            sent.due = sent.covered
            self.held.append(sent)
        if sent.due is not None:
            sent.state = "executed"  # a batch verdict has covered it
            self.verdicts += 1
            assert packet.verdict is not None
        else:
            assert packet.verdict is None

    def end(self, sent: Sent, packet: Packet) -> None:
        sent.running = False
        if sent.state == "active":
            if sent.recorded is not None:
                self.decide(sent, sent.recorded)
                self.verdicts += 1
            elif sent.plan.fails or not sent.plan.keeps:
                self.decide_default(sent)
                self.verdicts += 1
            else:
                sent.state = "kept"
        if sent.plan.keeps:
            sent.packet = packet
            self.kept.append(sent)

    def dispatch(self, call: Callable[[], int], most: int, *, malformed: bool = False) -> None:
        """Calls what dispatches: the number of packets comes back, or the first exception."""
        frame = Frame()
        self.frames.append(frame)
        result: object
        try:
            result = call()
        except Failure as failure:
            result = failure.tag
        except nfq.MalformedMessageError:
            result = "malformed"
        except ValueError:
            result = "closed"
        self.frames.pop()
        errors = [*frame.failures, *["malformed"] * malformed]
        if errors:
            assert result == errors[0]
            self.expected_unraisable += frame.failures[1:]
            if malformed and frame.failures:
                self.expected_unraisable.append("malformed")
        else:
            assert result == frame.count or (self.closed and result == "closed")
        if frame.count or malformed:
            self.held.clear()
        if not self.frames and not errors and not self.closed and frame.count < most:
            self.nothing_left()

    def nothing_left(self) -> None:
        """All that was on its way is dispatched."""
        for binding in self.bindings.values():
            for sent in binding.sent:
                assert sent.state != "on its way" or sent in self.strange
        assert self.handle.stats().orphaned == self.orphaned

    # Calls, in callbacks and outside

    def step(self, step: Step, sent: Sent, packet: Packet) -> None:
        """One that a callback makes."""
        if step.call == "verdict":
            self.give(sent, packet, self.right(step.due))
        elif step.call == "process":
            self.process(step.number + 1)
        elif step.call == "hand_in":
            self.hand_in(self.strange[: step.number], malformed=False)
        elif step.call == "answer" and self.kept:
            self.answer(self.kept[step.number % len(self.kept)], step.due)
        elif step.call == "batch":
            self.give_batch(sent.binding, packet.id + step.number - 2, step.due)
        elif step.call == "destroy":
            self.destroy(sent.binding)
        elif step.call == "rebind":
            self.rebind(sent.binding)
        elif step.call == "create":
            self.create(step.number % len(NUMBERS), step.due.verdict)
        elif step.call == "configure":
            self.configure(sent.binding, step.number)
        elif step.call == "flush":
            self.flush()
        elif step.call == "close":
            self.close()

    def give(self, sent: Sent, packet: Packet, due: Due) -> None:
        """A verdict in the packet's own callback."""
        assert sent.binding is not None
        if sent.binding.bound and sent.state == "executed":
            with pytest.raises(nfq.VerdictError):
                packet.set_verdict(due.verdict, due.mark, payload=due.payload)
            return
        packet.set_verdict(due.verdict, due.mark, payload=due.payload)
        if sent.state == "active":
            sent.recorded = due
            assert packet.verdict == due.verdict

    def answer(self, sent: Sent, due: Due) -> None:
        """A verdict on a packet that was kept."""
        assert sent.binding is not None
        assert sent.packet is not None
        due = self.right(due)
        if sent.state != "kept":
            error = nfq.VerdictError if sent.state == "executed" else ValueError
            with pytest.raises(error):
                sent.packet.set_verdict(due.verdict, due.mark, payload=due.payload)
            return
        sent.packet.set_verdict(due.verdict, due.mark, payload=due.payload)
        self.decide(sent, due)
        self.verdicts += 1
        self.hold(sent)

    def hold(self, sent: Sent) -> None:
        if not self.autoflush:
            self.held.append(sent)

    def give_batch(self, binding: Binding | None, up_to: int, due: Due) -> None:
        assert binding is not None
        due = Due(self.right(due).verdict, due.mark)
        up_to &= 0xFFFFFFFF
        if not binding.bound:
            with pytest.raises(nfq.ClosedError, match="destroyed"):
                binding.queue.set_verdict_batch(due.verdict, up_to, due.mark)
            return
        binding.queue.set_verdict_batch(due.verdict, up_to, due.mark)
        if newer(up_to, binding.highest):
            up_to = binding.highest
        covered = [
            sent for sent in binding.sent if sent.due is None and not newer(sent.packet_id, up_to)
        ]
        waiting = [sent for sent in covered if sent.undecided]
        singly = self.is_stranded(binding)
        if waiting:
            self.verdicts += len(waiting)
            for sent in covered:
                if singly and not sent.undecided:
                    sent.covered = sent.covered or due
                    continue
                sent.due = due
                if sent.undecided:
                    sent.state = "executed"
                self.hold(sent)

    def is_stranded(self, binding: Binding) -> bool:
        """Whether the kernel may keep a packet of the queue whose own verdict it has refused.

        A batch verdict would release that too, and is given to each packet by itself.
        """
        read = self.handle.stats().verdict_errors
        return EPERM in self.refused[binding.refusals : read]

    def process(self, most: int) -> None:
        if most == 0:
            return
        if self.closed:
            with pytest.raises(ValueError, match="closed"):
                self.handle.process(most)
        else:
            self.dispatch(lambda: self.handle.process(most), most)

    def hand_in(self, chosen: list[Sent], *, malformed: bool) -> None:
        """What the other reader has read."""
        data = b"".join(aligned(self.message(sent)) for sent in chosen)
        data += MALFORMED * malformed
        if not data:
            return
        if self.closed:
            with pytest.raises(ValueError, match="closed"):
                self.handle.handle_packet(data)
            return
        for sent in chosen:
            self.strange.remove(sent)
        self.dispatch(lambda: self.handle.handle_packet(data), 0, malformed=malformed)

    @staticmethod
    def message(sent: Sent) -> bytes:
        payload = HEADERS + struct.pack("!I", sent.tag)
        return packet_message(sent.packet_id, payload, number=sent.number)

    def flush(self) -> None:
        if self.closed:
            with pytest.raises(ValueError, match="closed"):
                self.handle.flush()
        else:
            self.handle.flush()
            self.held.clear()

    def create(self, number: int, default: int) -> None:
        default = self.right(Due(default)).verdict

        def call() -> Queue:
            return self.handle.create_queue(
                number, self.callback, mode=COPY, default_verdict=default
            )

        if self.closed:
            with pytest.raises(ValueError, match="closed"):
                call()
        elif number in self.bindings:
            with pytest.raises(OSError, match=r"Errno 16.*bound on this handle already"):
                call()
        else:
            read = self.handle.stats().verdict_errors
            self.bindings[number] = Binding(number, call(), default, refusals=read)

    def configure(self, binding: Binding | None, which: int) -> None:
        """Requests that change nothing which the model knows of, and some that are refused."""
        assert binding is not None
        queue = binding.queue
        calls: list[Callable[[], object]] = [
            lambda: queue.set_maxlen(1000),
            lambda: queue.set_mode(COPY, 0xFFFF),
            lambda: queue.set_flags(nfq.NFQA_CFG_F_UID_GID, nfq.NFQA_CFG_F_UID_GID),
            lambda: queue.set_maxlen(-1),
            lambda: queue.set_mode(3, 0),
            lambda: queue.set_flags(1 << 32, 0),
        ]
        if binding.bound and which < 3:
            calls[which]()
        else:
            with pytest.raises(ValueError, match=r"destroyed|must be in"):
                calls[which]()

    def destroy(self, binding: Binding | None) -> None:
        assert binding is not None
        binding.queue.destroy()
        assert binding.queue.destroyed
        self.destroyed(binding)

    def rebind(self, binding: Binding | None) -> None:
        """Its packets are not the new one's, also those that were not read yet."""
        assert binding is not None
        self.destroy(binding)
        self.create(binding.number, binding.default)

    def destroyed(self, binding: Binding) -> None:
        """What waits for a verdict then has one."""
        if not binding.bound:
            return
        binding.bound = False
        del self.bindings[binding.number]
        for sent in binding.sent:
            if sent.state == "active" and sent.recorded is not None:
                self.decide(sent, sent.recorded)
                self.verdicts += 1
            elif sent.undecided:
                self.decide_default(sent, executed=False)
            elif sent.state == "on its way":
                self.lost(sent, binding)
        self.held.clear()

    def lost(self, sent: Sent, binding: Binding) -> None:
        """One that was not dispatched before its queue was destroyed."""
        if sent.due is None:
            sent.due = Due(binding.default)
        sent.state = "settled"
        if sent in self.strange:
            self.strange.remove(sent)
        else:
            self.orphaned += 1

    def close(self) -> None:
        self.handle.close()
        assert self.handle.closed
        for binding in list(self.bindings.values()):
            self.destroyed(binding)
        self.closed = True

    # The rules

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """What the calls of the block have promised has come true."""
        yield
        self.check()

    def check(self) -> None:
        self.read()
        for sent in self.tags.values():
            if sent.due is not None and sent not in self.held:
                assert sent.answered, sent
        stats = self.handle.stats()
        assert stats.packets == self.packets
        assert stats.verdicts == self.verdicts
        assert stats.defaulted == self.defaulted
        assert stats.orphaned <= self.orphaned
        malformed = repr(nfq.MalformedMessageError("fewer bytes"))[:20]
        assert len(self.unraisable) == len(self.expected_unraisable), self.unraisable
        for told, expected in zip(self.unraisable, self.expected_unraisable, strict=True):
            assert told == expected or (expected == "malformed" and malformed in str(told))

    @initialize(default=dues)
    def first_queue(self, default: Due) -> None:
        with self.checking():
            self.create(1, default.verdict)

    @precondition(lambda self: not self.closed)
    @rule(number=numbers, default=dues)
    def create_queue(self, number: int, default: Due) -> None:
        with self.checking():
            self.create(number, default.verdict)

    def new(self, binding: Binding, plan: Plan) -> Sent:
        tag = len(self.tags)
        binding.last_id += 1
        sent = Sent(binding.number, binding.last_id, tag=tag, binding=binding, plan=plan)
        self.tags[tag] = sent
        binding.sent.append(sent)
        return sent

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, plans=st.lists(plans, min_size=1, max_size=4), most=counts)
    def packets_arrive(self, which: int, plans: list[Plan], most: int) -> None:
        binding = list(self.bindings.values())[which % len(self.bindings)]
        with self.checking():
            for plan in plans:
                self.queue(self.new(binding, plan))
            self.process(most)

    @rule(most=counts)
    def call_process(self, most: int) -> None:
        with self.checking():
            self.process(most)

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 9), due=dues)
    def set_verdict(self, which: int, due: Due) -> None:
        sent = self.kept[which % len(self.kept)]
        undecided = sent.state == "kept"
        with self.checking():
            self.answer(sent, due)
        assert not (undecided and sent in self.held and sent.answered)

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 9))
    def drop_reference(self, which: int) -> None:
        sent = self.kept.pop(which % len(self.kept))
        with self.checking():
            if sent.state == "kept":
                self.decide_default(sent)
                self.verdicts += 1
            sent.packet = None

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 9), ahead=st.integers(-2, 3), due=dues)
    def set_verdict_batch(self, which: int, ahead: int, due: Due) -> None:
        sent = self.kept[which % len(self.kept)]
        with self.checking():
            self.give_batch(sent.binding, sent.packet_id + ahead, due)

    @precondition(lambda self: not self.closed)
    @rule(autoflush=st.booleans())
    def set_autoflush(self, autoflush: bool) -> None:
        with self.checking():
            self.handle.autoflush = self.autoflush = autoflush
            if autoflush:
                self.held.clear()

    @rule()
    def call_flush(self) -> None:
        with self.checking():
            self.flush()

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, default=dues)
    def set_default_verdict(self, which: int, default: Due) -> None:
        binding = list(self.bindings.values())[which % len(self.bindings)]
        binding.queue.default_verdict = binding.default = self.right(default).verdict

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, what=st.integers(0, 5))
    def call_configure(self, which: int, what: int) -> None:
        with self.checking():
            self.configure(list(self.bindings.values())[which % len(self.bindings)], what)

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, really=rarely)
    def call_destroy(self, which: int, really: bool) -> None:
        if really:
            with self.checking():
                self.destroy(list(self.bindings.values())[which % len(self.bindings)])

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, really=rarely)
    def call_rebind(self, which: int, really: bool) -> None:
        if really:
            with self.checking():
                self.rebind(list(self.bindings.values())[which % len(self.bindings)])

    @rule(really=rarely)
    def close_and_open(self, really: bool) -> None:
        if really or self.closed:
            with self.checking():
                self.close()
            self.finish()
            self.open()

    def finish(self) -> None:
        """The handle is closed."""
        self.kept.clear()
        self.tags.clear()

    def teardown(self) -> None:
        with self.resources:
            with self.checking():
                self.close()
            self.finish()


class PlayedCalls(Calls):
    """With a played kernel, which sees each verdict that is sent."""

    def open_handle(self) -> nfq.NetfilterQueueHandle:
        self.played = self.resources.enter_context(contextlib.ExitStack())
        self.kernel = self.played.enter_context(PlayedKernel())
        self.played.enter_context(self.kernel.answering())
        self.ledger = Ledger()
        self.last_verdict = b""
        return self.kernel.handle

    def finish(self) -> None:
        assert self.ledger.waiting == []
        super().finish()
        self.played.close()

    def read(self) -> None:
        messages = self.kernel.received()
        self.ledger.read(messages)
        for data in messages:
            kind, _, sequence = struct.unpack_from("=HHI", data, 4)
            if kind in (MSG_VERDICT, MSG_VERDICT_BATCH) and sequence != TEARDOWN:
                self.last_verdict = data

    def queue(self, sent: Sent) -> None:
        self.ledger.waiting.append(sent)
        self.kernel.socket.send(self.message(sent))

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, plans=st.lists(plans, min_size=2, max_size=3), most=counts)
    def packets_arrive_together(self, which: int, plans: list[Plan], most: int) -> None:
        """In one datagram."""
        binding = list(self.bindings.values())[which % len(self.bindings)]
        together = [self.new(binding, plan) for plan in plans]
        self.ledger.waiting += together
        self.kernel.socket.send(b"".join(aligned(self.message(sent)) for sent in together))
        with self.checking():
            self.process(most)

    @precondition(lambda self: self.bindings)
    @rule(which=numbers)
    def packet_is_lost(self, which: int) -> None:
        """The receive buffer had no room: the kernel keeps no such packet."""
        list(self.bindings.values())[which % len(self.bindings)].last_id += 1

    @precondition(lambda self: self.bindings)
    @rule(which=numbers, plan=plans)
    def another_reader_reads(self, which: int, plan: Plan) -> None:
        sent = self.new(list(self.bindings.values())[which % len(self.bindings)], plan)
        self.ledger.waiting.append(sent)
        self.strange.append(sent)

    @rule(first=st.integers(0, 3), count=st.integers(0, 3), malformed=st.booleans())
    def call_handle_packet(self, first: int, count: int, malformed: bool) -> None:
        with self.checking():
            self.hand_in(self.strange[first : first + count], malformed=malformed)

    @precondition(lambda self: not self.closed)
    @rule(number=numbers)
    def create_is_refused(self, number: int) -> None:
        if number not in self.bindings:
            with self.kernel.answering(EOPNOTSUPP), pytest.raises(OSError, match="Errno 95"):
                self.handle.create_queue(number, self.callback, mode=COPY)
            self.check()

    @precondition(lambda self: self.last_verdict and not self.closed)
    @rule(error=st.sampled_from([ENOENT, EPERM]))
    def verdict_is_refused(self, error: int) -> None:
        """What the model takes for answered may wait in the kernel then: nothing else changes."""
        self.kernel.socket.send(error_message(error, self.last_verdict))
        self.refused.append(error)

    def nothing_left(self) -> None:
        super().nothing_left()
        assert self.handle.stats().verdict_errors == len(self.refused)


class RealCalls(Calls):
    """With real packets: what is accepted arrives, what is dropped does not."""

    def __init__(self) -> None:
        super().__init__()
        self.udp = self.resources.enter_context(UdpPair())
        self.senders = {
            number: self.resources.enter_context(sender(port=port))
            for number, port in PORTS.items()
        }

    def open_handle(self) -> nfq.NetfilterQueueHandle:
        return self.resources.enter_context(nfq.open())

    def right(self, due: Due) -> Due:
        return Due(nfq.NF_ACCEPT if due.verdict % 2 else nfq.NF_DROP)

    def queue(self, sent: Sent) -> None:
        self.senders[sent.number].send(struct.pack("!I", sent.tag))

    def read(self) -> None:
        arrived = {struct.unpack("!I", data)[0] for data in self.udp.arrivals()}
        for sent in self.tags.values():
            if sent.due is not None and sent.due.verdict == nfq.NF_DROP and sent not in self.held:
                sent.answered = True  # as far as anybody can see
            if sent.tag in arrived:
                assert not (sent.answered and sent.due), sent
                assert sent.due is not None
                sent.answered = True


def set_rules() -> None:
    """What the real packets pass through."""
    for number, port in PORTS.items():
        queue_rule(number, f"-p udp --sport {port}")


def test_played() -> None:
    """The promises are kept, on a kernel that sees each message."""
    run_state_machine_as_test(
        PlayedCalls, settings=settings(max_examples=40, stateful_step_count=30)
    )


def test_real() -> None:
    """The promises are kept by real packets."""
    set_rules()
    run_state_machine_as_test(RealCalls, settings=settings(max_examples=15, stateful_step_count=30))
