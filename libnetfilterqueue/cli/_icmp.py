# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of ICMP and ICMPv6, with the names that nft gives their types and codes."""

UNREACHABLE = "destination-unreachable"

TYPES = {
    0: "echo-reply",
    3: UNREACHABLE,
    4: "source-quench",
    5: "redirect",
    8: "echo-request",
    9: "router-advertisement",
    10: "router-solicitation",
    11: "time-exceeded",
    12: "parameter-problem",
    13: "timestamp-request",
    14: "timestamp-reply",
    15: "info-request",
    16: "info-reply",
    17: "address-mask-request",
    18: "address-mask-reply",
}
CODES = {  # of what is unreachable
    0: "net-unreachable",
    1: "host-unreachable",
    2: "prot-unreachable",
    3: "port-unreachable",
    4: "frag-needed",
    9: "net-prohibited",
    10: "host-prohibited",
    13: "admin-prohibited",
}
V6_TYPES = {
    1: UNREACHABLE,
    2: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
    128: "echo-request",
    129: "echo-reply",
    130: "mld-listener-query",
    131: "mld-listener-report",
    132: "mld-listener-done",
    133: "nd-router-solicit",
    134: "nd-router-advert",
    135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert",
    137: "nd-redirect",
    138: "router-renumbering",
    141: "ind-neighbor-solicit",
    142: "ind-neighbor-advert",
    143: "mld2-listener-report",
}
V6_CODES = {
    0: "no-route",
    1: "admin-prohibited",
    3: "addr-unreachable",
    4: "port-unreachable",
    5: "policy-fail",
    6: "reject-route",
}


def message_name(kind: int, code: int, *, v6: bool) -> str:
    """A message in words; numbers that have no name as they are, and no code if it is 0."""
    name = (V6_TYPES if v6 else TYPES).get(kind, f"type {kind}")
    if name == UNREACHABLE:
        return f"{name} {(V6_CODES if v6 else CODES).get(code, f'code {code}')}"
    return f"{name} code {code}" if code else name
