# SPDX-License-Identifier: GPL-2.0-or-later
"""The constants have the kernel's names and values."""

import enum
from typing import Any

import pytest
from played_kernel import PlayedKernel, packet_message

import libnetfilterqueue as nfq

# From linux/netfilter.h and linux/netfilter/nfnetlink_queue.h.
ENUMS: dict[type[enum.IntEnum], dict[str, int]] = {
    nfq.Verdict: {
        "NF_DROP": 0,
        "NF_ACCEPT": 1,
        "NF_STOLEN": 2,
        "NF_QUEUE": 3,
        "NF_REPEAT": 4,
        "NF_STOP": 5,
    },
    nfq.CopyMode: {"NFQNL_COPY_NONE": 0, "NFQNL_COPY_META": 1, "NFQNL_COPY_PACKET": 2},
    nfq.Hook: {
        "NF_INET_PRE_ROUTING": 0,
        "NF_INET_LOCAL_IN": 1,
        "NF_INET_FORWARD": 2,
        "NF_INET_LOCAL_OUT": 3,
        "NF_INET_POST_ROUTING": 4,
    },
}
FLAGS: dict[type[enum.IntFlag], dict[str, int]] = {
    nfq.QueueFlag: {
        "NFQA_CFG_F_FAIL_OPEN": 1 << 0,
        "NFQA_CFG_F_CONNTRACK": 1 << 1,
        "NFQA_CFG_F_GSO": 1 << 2,
        "NFQA_CFG_F_UID_GID": 1 << 3,
        "NFQA_CFG_F_SECCTX": 1 << 4,
    },
    nfq.SkbInfo: {
        "NFQA_SKB_CSUMNOTREADY": 1 << 0,
        "NFQA_SKB_GSO": 1 << 1,
        "NFQA_SKB_CSUM_NOTVERIFIED": 1 << 2,
    },
}
CONSTANTS = [
    (cls, name, value)
    for enums in (ENUMS, FLAGS)
    for cls, members in enums.items()
    for name, value in members.items()
]


@pytest.mark.parametrize(("cls", "name", "value"), CONSTANTS)
def test_constant(cls: type[enum.Enum], name: str, value: int) -> None:
    """Each constant has its value in the kernel, and is the same object in module and class."""
    assert getattr(nfq, name) == value
    assert getattr(nfq, name) is cls[name]
    assert isinstance(getattr(nfq, name), int)
    assert name in nfq.__all__


def test_classes() -> None:
    """There are no other enums; single values are IntEnums, bits are IntFlags."""
    for enumeration, members in ENUMS.items():
        assert issubclass(enumeration, enum.IntEnum)
        assert set(enumeration.__members__) == set(members)
    for flags, members in FLAGS.items():
        assert issubclass(flags, enum.IntFlag)
        assert set(flags.__members__) == set(members)


@pytest.mark.parametrize("enumeration", [nfq.Hook, nfq.CopyMode])
def test_numbers_of_newer_kernels(enumeration: type[nfq.Hook | nfq.CopyMode]) -> None:
    """What a kernel may send and has no name here is a member all the same, named by its digits."""
    member = enumeration(7)
    assert isinstance(member, enumeration)
    assert member == enumeration(7) == 7
    assert (member.name, member.value, hash(member)) == ("7", 7, hash(enumeration(7)))
    assert member not in list(enumeration)
    wrong: list[Any] = [-1, 1 << 32, "7"]
    for value in wrong:
        with pytest.raises(ValueError, match=enumeration.__name__):
            enumeration(value)


def test_hook_of_newer_kernels() -> None:
    """A packet's hook has a name, whatever number the kernel sends, and a status its copy mode."""
    seen: list[nfq.Hook] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, lambda packet: seen.append(packet.hook))
        kernel.socket.send(packet_message(1, hook=9))
        kernel.handle.process()
    assert [(type(hook), hook.name, hook) for hook in seen] == [(nfq.Hook, "9", 9)]


def test_queue_number_verdict() -> None:
    """NF_QUEUE_NR builds the verdict as linux/netfilter.h does, with its flag for bypassing."""
    assert nfq.NF_QUEUE_NR(0) == nfq.NF_QUEUE
    assert nfq.NF_QUEUE_NR(5) == 5 << 16 | nfq.NF_QUEUE
    assert nfq.NF_QUEUE_NR(65535) == 0xFFFF0003
    assert nfq.NF_QUEUE_NR(5, bypass=True) == 5 << 16 | 0x8000 | nfq.NF_QUEUE


def test_exceptions() -> None:
    """The exceptions are what handlers of the builtin ones expect."""
    assert issubclass(nfq.MalformedMessageError, ValueError)
    assert issubclass(nfq.VerdictError, RuntimeError)


@pytest.mark.parametrize(
    "cls", [nfq.NetfilterQueueHandle, nfq.NetfilterQueueQueueHandle, nfq.NetfilterQueueData]
)
def test_classes_are_closed(cls: type) -> None:
    """The three classes can neither be instantiated by hand nor subclassed."""
    with pytest.raises(TypeError):
        cls()
    with pytest.raises(TypeError):
        type("Derived", (cls,), {})


def test_everything_exported_exists() -> None:
    """All names of __all__ are there."""
    assert all(hasattr(nfq, name) for name in nfq.__all__)


class Broken:
    """Neither an int nor a bool."""

    def __index__(self) -> int:
        raise LookupError("index")

    def __bool__(self) -> bool:
        raise LookupError("bool")


def test_arguments_that_raise() -> None:
    """An exception of an argument that is asked for its value comes out."""
    with pytest.raises(LookupError, match="index"):
        nfq.NF_QUEUE_NR(Broken())
    with pytest.raises(LookupError, match="bool"):
        nfq.NF_QUEUE_NR(1, Broken())  # type: ignore[arg-type]
