# SPDX-License-Identifier: GPL-2.0-or-later
"""What the data of a packet say: DNS, the name of a TLS server, the first line of HTTP.

dnspython, which is kept, reads the names and the data of DNS, which have many forms. A question
takes 16 us, an answer with three addresses 145, and what comes again 1. scapy 2.8 takes 80 and 590.
No kept library reads TLS from packets in less than 1 ms, as scapy does. OpenSSL reads only whole
ClientHellos, and those of today's browsers fill two packets. So the way to the name, which is in
the first of them, is read here.
"""

import functools
import re
import struct
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype

from libnetfilterqueue.cli._dissect import Dissected

DNS_PORTS = {53, 5353, 5355}  # those of mDNS and LLMNR too
HEADER = struct.Struct("!HHHHHH")  # id, flags, how many questions, answers and others
QUESTION = struct.Struct("!HH")  # type, class
RECORD = struct.Struct("!HHIH")  # the same, time to live, length of the data
RESPONSE, RCODE = 0x8000, 0x000F  # flags
MOST = 64  # records that are read of a message
ANSWERS = 4  # how many of them a line has

CLIENT_HELLO = re.compile(rb"\x16\x03.{3}\x01.{3}\x03.{33}", re.DOTALL)  # up to the session's id
SERVER_NAME = 0  # the number of the extension

HTTP = re.compile(
    rb"[A-Z]{3,16} [^\r\n]{1,2048} HTTP/1\.[01](?=\r?\n)|HTTP/1\.[01] \d{3}[^\r\n]{0,200}"
)


class Dns(NamedTuple):
    """A message of DNS without its id."""

    response: bool
    rcode: str
    questions: list[dict[str, str]]
    """Each with `name` and `type`."""
    answers: list[dict[str, str | int]]
    """Each with `name`, `type`, `ttl` in seconds and `data`."""

    summary: str
    """In tcpdump's manner: the question, and what the answer to it is."""


class Application(NamedTuple):
    """What is known of an application's data; None is what they are not."""

    dns: Dns | None = None
    dns_id: int | None = None
    tls_server_name: str | None = None
    """"" if a ClientHello has none, or none in this packet."""
    http: str | None = None
    """The first line of a request or response."""

    def text(self) -> str:
        """For a line; "" if nothing is known."""
        if self.dns is not None:
            return f"DNS {self.dns_id} {self.dns.summary}".rstrip()
        if self.tls_server_name is not None:
            return f"TLS ClientHello {self.tls_server_name}".rstrip()
        return "" if self.http is None else f"HTTP {self.http}"


UNKNOWN = Application()


def read_application(fields: Dissected, payload: bytes) -> Application:
    """Reads what TCP or UDP carries."""
    if fields.sport is None or fields.start == fields.end:
        return UNKNOWN
    is_tcp = fields.flags is not None
    if fields.sport in DNS_PORTS or fields.dport in DNS_PORTS:
        # TCP's messages have their length in front.
        return read_dns(payload[fields.start + 2 * is_tcp : fields.end])
    return read_tcp(payload[fields.start : fields.end]) if is_tcp else UNKNOWN


def read_tcp(data: bytes) -> Application:
    """What a segment begins with, if it is the beginning of something known."""
    if data[0] == 0x16:
        return Application(tls_server_name=server_name(data))
    match = HTTP.match(data)
    return Application(http=match[0].decode("latin-1")) if match else UNKNOWN


def read_dns(data: bytes) -> Application:
    """A message; nothing if it is none."""
    message = dns_message(data[2:])
    if message is None:
        return UNKNOWN
    return Application(dns=message, dns_id=int.from_bytes(data[:2], "big"))


@functools.lru_cache(256)
def dns_message(data: bytes) -> Dns | None:
    """Reads a message without its id: the next question for that name differs only there."""
    message = b"\0\0" + data
    if len(message) < HEADER.size:
        return None
    _, flags, questions, answers, *_ = HEADER.unpack_from(message)
    asked: list[dict[str, str]] = []
    found: list[dict[str, str | int]] = []
    at = HEADER.size
    try:
        for _ in range(min(questions, MOST)):
            name, at = read_name(message, at)
            kind, _ = QUESTION.unpack_from(message, at)
            at += QUESTION.size
            asked.append({"name": name, "type": type_name(kind)})
        for _ in range(min(answers, MOST)):
            name, at = read_name(message, at)
            kind, rdclass, ttl, size = RECORD.unpack_from(message, at)
            at += RECORD.size
            rdata = dns.rdata.from_wire(rdclass, kind, message, at, size)
            at += size
            found.append(
                {"name": name, "type": type_name(kind), "ttl": ttl, "data": rdata.to_text()}
            )
    except (dns.exception.DNSException, ValueError, struct.error):
        if not asked:
            return None
    response, rcode = bool(flags & RESPONSE), rcode_name(flags & RCODE)
    words = [rcode] if response else []
    words += [f"{question['type']}? {question['name']}" for question in asked]
    words += [", ".join(f"{answer['type']} {answer['data']}" for answer in found[:ANSWERS])]
    if len(found) > ANSWERS:
        words[-1] += f", {len(found) - ANSWERS} more"
    return Dns(response, rcode, asked, found, " ".join(words).rstrip())


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """A name, which may point at another one before it, and where it ends."""
    name, size = dns.name.from_wire(message, at)
    return name.to_text(omit_final_dot=True), at + size


type_name = functools.cache(dns.rdatatype.to_text)
rcode_name = functools.cache(dns.rcode.to_text)


def server_name(data: bytes) -> str | None:
    """The name in a ClientHello; "" if none is there, None if the data are something else."""
    hello = CLIENT_HELLO.match(data)
    if hello is None:
        return None
    try:
        at = hello.end()
        at += 1 + data[at]  # the session's id
        at += 2 + int.from_bytes(data[at : at + 2], "big")  # ciphers
        at += 1 + data[at] + 2  # compression, and how long the extensions are
        while True:
            kind, size = struct.unpack_from("!HH", data, at)
            if kind == SERVER_NAME:  # behind two lengths and the kind of name
                return data[at + 9 : at + 4 + size].decode("ascii", "backslashreplace")
            at += 4 + size
    except (IndexError, struct.error):
        return ""
