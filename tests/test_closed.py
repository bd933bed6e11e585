# SPDX-License-Identifier: GPL-2.0-or-later
"""What is closed or destroyed raises ClosedError, whatever is asked of it; and the other names."""

import importlib.metadata
from collections.abc import Callable

import pytest
from queues import Handle, Packet, Queue, keeping, receive

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

Call = Callable[[Handle, Queue, Packet], object]

OF_A_HANDLE: dict[str, Call] = {
    "bind_pf": lambda handle, *_: handle.bind_pf(2),
    "unbind_pf": lambda handle, *_: handle.unbind_pf(2),
    "create_queue": lambda handle, *_: handle.create_queue(2, print),
    "handle_packet": lambda handle, *_: handle.handle_packet(b""),
    "process": lambda handle, *_: handle.process(),
    "fd": lambda handle, *_: handle.fd(),
    "fileno": lambda handle, *_: handle.fileno(),
    "flush": lambda handle, *_: handle.flush(),
    "rcvbuf": lambda handle, *_: handle.rcvbuf,
    "no_enobufs": lambda handle, *_: handle.no_enobufs,
    "set autoflush": lambda handle, *_: setattr(handle, "autoflush", False),
    "set on_held": lambda handle, *_: setattr(handle, "on_held", print),
    "set rcvbuf": lambda handle, *_: setattr(handle, "rcvbuf", 1),
    "__enter__": lambda handle, *_: handle.__enter__(),
}

OF_A_QUEUE: dict[str, Call] = {
    "set_mode": lambda _, queue, __: queue.set_mode(2, 0),
    "set_flags": lambda _, queue, __: queue.set_flags(1, 1),
    "set_maxlen": lambda _, queue, __: queue.set_maxlen(1),
    "set_verdict_batch": lambda _, queue, __: queue.set_verdict_batch(1, 1),
    "set default_verdict": lambda _, queue, __: setattr(queue, "default_verdict", nfq.NF_DROP),
    "__enter__": lambda _, queue, __: queue.__enter__(),
    "set_verdict": lambda *objects: objects[2].set_verdict(nfq.NF_DROP),
    "accept": lambda *objects: objects[2].accept(),
    "drop": lambda *objects: objects[2].drop(),
    "repeat": lambda *objects: objects[2].repeat(),
    "requeue": lambda *objects: objects[2].requeue(2),
}

pytestmark = pytest.mark.nfqueue(allow_undecided=True)  # none is about verdicts


@pytest.mark.parametrize(
    ("name", "destroy"),
    [
        *((name, False) for name in {**OF_A_HANDLE, **OF_A_QUEUE}),
        *((name, True) for name in OF_A_QUEUE),
    ],
)
def test_calls(nfqueue: FakeKernel, name: str, destroy: bool) -> None:
    """Every call that needs an open handle or queue says so on a closed or destroyed one."""
    with nfq.open() as handle:
        packets = keeping(handle)
        nfqueue.enqueue(b"data")
        packet = receive(handle, packets)
        queue = packet.queue
        if destroy:
            queue.destroy()
        else:
            handle.close()
        with pytest.raises(nfq.ClosedError, match=r"is (closed|destroyed)"):
            {**OF_A_HANDLE, **OF_A_QUEUE}[name](handle, queue, packet)


def test_error() -> None:
    """ClosedError is the ValueError that sockets and files raise, under a name of its own."""
    assert issubclass(nfq.ClosedError, ValueError)
    assert not issubclass(nfq.MalformedMessageError, nfq.ClosedError)
    with FakeKernel() as kernel:
        pass
    with pytest.raises(nfq.ClosedError, match="the fake kernel is closed"):
        kernel.enqueue(b"data")


def test_short_names() -> None:
    """The classes have short names too, for annotations."""
    assert nfq.Handle is nfq.NetfilterQueueHandle
    assert nfq.Queue is nfq.NetfilterQueueQueueHandle
    assert nfq.Packet is nfq.NetfilterQueueData


def test_version() -> None:
    """The version is that of the distribution."""
    assert nfq.__version__ == importlib.metadata.version("libnetfilterqueue")
