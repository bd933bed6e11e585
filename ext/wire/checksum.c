/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checksums of IP packets, in two steps. First the headers are walked, also those of a tunnel's
 * inner packets, and every length is checked. Then the sums are written, from the innermost packet
 * outwards, because a tunnel's own checksum covers its inner packet. Any thread may call it. There
 * is no state.
 */
#include "checksum.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define IPV4_HEADER_SIZE 20
#define IPV4_CHECKSUM 10 /* its place in the header */
#define IPV4_OPTION_LSRR 131
#define IPV4_OPTION_SSRR 137
#define IPV6_HEADER_SIZE 40
#define IPV6_ADDRESS_SIZE 16
#define IPV6_OPTION_JUMBO 0xc2
#define IPV6_OPTION_HOME_ADDRESS 0xc9
#define UDP_HEADER_SIZE 8
#define GRE_HEADER_SIZE 4
#define GRE_CHECKSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007
#define GRE_FIELD_SIZE 4 /* of each that a flag says is there */
#define VXLAN_HEADER_SIZE 8
#define VXLAN_PORT 4789
#define VXLAN_OLD_PORT 8472 /* what Linux takes where none is named */
#define GENEVE_HEADER_SIZE 8
#define GENEVE_PORT 6081
#define ETHERNET_TYPE 12 /* its place in a frame */
#define VLAN_TAG_SIZE 4

/* What the walk through a packet's headers has found. */
struct walk {
    const unsigned char *bytes;
    uint32_t skb_info;
    size_t size;               /* the packet's own, without what lies behind it */
    size_t at;                 /* the header that is looked at, in the end the transport's */
    size_t header_size;        /* of the IP header, with IPv4's options */
    uint8_t version;           /* 4 or 6 */
    uint8_t protocol;          /* of the header at `at` */
    bool fragment;             /* a part of a packet: its transport checksum is not ours */
    bool endless;              /* its length is 0 and its size the buffer's */
    size_t address_size;       /* of each of the two: */
    const unsigned char *from; /* addresses of the pseudo header */
    const unsigned char *to;
};

/* What a transport's checksum covers. */
struct cover {
    size_t length; /* as the pseudo header has it */
    size_t size;   /* from the transport header on */
    bool none;     /* the sender made no checksum */
};

static const struct transport {
    uint8_t version; /* of IP; 0 for both */
    uint8_t protocol;
    uint8_t header_size; /* the shortest */
    uint8_t checksum;    /* its place in the header */
    bool pseudo;         /* it covers the pseudo header too */
    bool never_zero;     /* 0 stands for no checksum; a sum of 0 is sent as its other form */
} transports[] = {
    {0, IPPROTO_TCP, 20, 16, true, false},
    {0, IPPROTO_UDP, UDP_HEADER_SIZE, 6, true, true},
    {0, IPPROTO_UDPLITE, UDP_HEADER_SIZE, 6, true, true},
    {0, IPPROTO_SCTP, 12, 8, false, false},
    {0, IPPROTO_GRE, GRE_HEADER_SIZE, 4, false, false},
    {4, IPPROTO_ICMP, 8, 2, false, false},
    {6, IPPROTO_ICMPV6, 8, 2, true, false},
};

/* A packet, or one in a tunnel's packet. */
struct layer {
    struct walk walk;
    const struct transport *transport; /* NULL: none that we know a checksum of */
    struct cover cover;
};

/* Where a tunnel's inner packet lies in its layer's bytes. */
struct inner {
    uint16_t type; /* as Ethernet has it: ETH_P_IP, ETH_P_IPV6, ETH_P_TEB for a frame; or another */
    size_t at;
    size_t end;
};

static inline uint16_t
read_u16(const unsigned char *bytes)
{
    uint16_t value;

    memcpy(&value, bytes, sizeof(value));
    return ntohs(value);
}

static inline uint32_t
read_u32(const unsigned char *bytes)
{
    uint32_t value;

    memcpy(&value, bytes, sizeof(value));
    return ntohl(value);
}

/* ---- the sum ---- */

/*
 * Adds bytes, the first of them at an even place of what the checksum covers. A sum of ones'
 * complements is the same in either byte order, and may be taken over wider words and folded later:
 * 64 bits hold the carries of 16 GiB.
 */
static inline uint64_t
add_bytes(uint64_t sum, const unsigned char *bytes, size_t size)
{
    uint64_t words;
    uint32_t word;

    for (; size >= sizeof(words); size -= sizeof(words)) {
        memcpy(&words, bytes, sizeof(words));
        sum += (words & UINT32_MAX) + (words >> 32);
        bytes += sizeof(words);
    }
    if (size >= sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        sum += word;
        bytes += sizeof(word);
        size -= sizeof(word);
    }
    word = 0;
    memcpy(&word, bytes, size); /* an odd byte is followed by a zero */
    return sum + word;
}

/* Adds all but the two bytes of the checksum itself, which is at an even place. */
static uint64_t
add_around(uint64_t sum, const unsigned char *bytes, size_t size, size_t checksum)
{
    size_t behind = checksum + sizeof(uint16_t);

    sum = add_bytes(sum, bytes, checksum);
    return add_bytes(sum, bytes + behind, size - behind);
}

static uint64_t
add_pseudo_header(uint64_t sum, const struct walk *walk, size_t length)
{
    const uint32_t rest[2] = {htonl((uint32_t)length), htonl(walk->protocol)};
    unsigned char bytes[sizeof(rest)];

    memcpy(bytes, rest, sizeof(rest));
    sum = add_bytes(sum, walk->from, walk->address_size);
    sum = add_bytes(sum, walk->to, walk->address_size);
    return add_bytes(sum, bytes, sizeof(bytes));
}

static uint16_t
finish(uint64_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void
write_sum(unsigned char *bytes, uint16_t sum)
{
    memcpy(bytes, &sum, sizeof(sum)); /* in either byte order; see add_bytes */
}

/* ---- SCTP's checksum ---- */

/* CRC32c (RFC 9260, appendix A), of four bits at a time. */
static uint32_t
add_crc(uint32_t crc, const unsigned char *bytes, size_t size)
{
    static const uint32_t of_bits[] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };

    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = of_bits[crc & 0xf] ^ crc >> 4;
        crc = of_bits[crc & 0xf] ^ crc >> 4;
    }
    return crc;
}

/* Of all bytes, with zeros for those of the checksum itself. */
static uint32_t
crc_around(const unsigned char *bytes, size_t size, size_t checksum)
{
    static const unsigned char zeros[sizeof(uint32_t)];
    size_t behind = checksum + sizeof(zeros);
    uint32_t crc = add_crc(UINT32_MAX, bytes, checksum);

    crc = add_crc(crc, zeros, sizeof(zeros));
    return ~add_crc(crc, bytes + behind, size - behind);
}

/* Unlike all else in network packets, the lowest byte first. */
static void
write_crc(unsigned char *bytes, uint32_t crc)
{
    for (size_t i = 0; i < sizeof(crc); i++) {
        bytes[i] = (unsigned char)(crc >> 8 * i);
    }
}

/* ---- options ---- */

/* The value of an option of IPv4, or of an IPv6 header that holds options. */
struct option {
    const unsigned char *value;
    size_t size;
};

/*
 * Finds the first option of a type between two places; options that make no sense end the search.
 * An option is a type, a length, which over IPv4 counts the first two bytes too, and its value; but
 * for the one that is a byte alone.
 */
static bool
find_option(const struct walk *walk, size_t at, size_t end, uint8_t type, struct option *option)
{
    uint8_t alone = walk->version == 4 ? 1 : 0;
    size_t less = walk->version == 4 ? 2 : 0;

    while (end - at >= 2) {
        uint8_t here = walk->bytes[at];
        size_t size = walk->bytes[at + 1];

        if (here == alone) {
            at += 1;
            continue;
        }
        if (size < less || size - less > end - at - 2 || (walk->version == 4 && here == 0)) {
            return false;
        }
        option->value = walk->bytes + at + 2;
        option->size = size - less;
        if (here == type) {
            return true;
        }
        at += 2 + option->size;
    }
    return false;
}

/* A packet on a route that its source has chosen carries its final destination in the route. */
static void
follow_source_route(struct walk *walk, size_t end)
{
    struct option route;

    if (end == IPV4_HEADER_SIZE
        || (!find_option(walk, IPV4_HEADER_SIZE, end, IPV4_OPTION_LSRR, &route)
            && !find_option(walk, IPV4_HEADER_SIZE, end, IPV4_OPTION_SSRR, &route))) {
        return;
    }
    /* The pointer, which counts from the option's type, is behind the last address at the end. */
    if (route.size >= 1 + walk->address_size && route.value[0] <= route.size + 2) {
        walk->to = route.value + route.size - walk->address_size;
    }
}

/* ---- headers ---- */

/* The lengths of the packet and of its header. */
static const char *
measure_ipv4(struct walk *walk)
{
    size_t header_size, length;

    if (walk->size < IPV4_HEADER_SIZE) {
        return "the packet is shorter than an IPv4 header";
    }
    header_size = (size_t)(walk->bytes[0] & 0xf) * 4;
    if (header_size < IPV4_HEADER_SIZE) {
        return "the IPv4 header's own length is below 20 bytes";
    }
    length = read_u16(walk->bytes + 2);
    walk->endless = length == 0;
    if (length > walk->size || header_size > walk->size) {
        return "the IPv4 packet is cut short";
    }
    if (!walk->endless && length < header_size) {
        return "the IPv4 packet is shorter than its header";
    }
    walk->size = walk->endless ? walk->size : length;
    walk->at = walk->header_size = header_size;
    return NULL;
}

static const char *
walk_ipv4(struct walk *walk)
{
    const char *wrong = measure_ipv4(walk);

    if (wrong != NULL) {
        return wrong;
    }
    walk->protocol = walk->bytes[9];
    walk->fragment = (read_u16(walk->bytes + 6) & 0x3fff) != 0; /* more to come, or an offset */
    walk->address_size = sizeof(struct in_addr);
    walk->from = walk->bytes + 12;
    walk->to = walk->bytes + 16;
    follow_source_route(walk, walk->header_size);
    return NULL;
}

/* A jumbogram has its length in an option. */
static const char *
walk_hop_by_hop(struct walk *walk, size_t end)
{
    struct option jumbo;
    size_t length;

    if (!walk->endless || !find_option(walk, walk->at + 2, end, IPV6_OPTION_JUMBO, &jumbo)) {
        return NULL;
    }
    if (jumbo.size != sizeof(uint32_t)) {
        return "the jumbo payload option is not 4 bytes long";
    }
    length = read_u32(jumbo.value);
    if (length > walk->size - IPV6_HEADER_SIZE) {
        return "the IPv6 packet is cut short";
    }
    if (length < end - IPV6_HEADER_SIZE) {
        return "the IPv6 packet is shorter than its headers";
    }
    walk->size = IPV6_HEADER_SIZE + length;
    walk->endless = false;
    return NULL;
}

/* While segments are left, the final destination is in here. `end` is the header's. */
static const char *
walk_routing(struct walk *walk, size_t end)
{
    const unsigned char *header = walk->bytes + walk->at;
    uint8_t type = header[2];
    size_t left = header[3];
    size_t addresses = walk->at + 8;

    if (left == 0) {
        return NULL;
    }
    if (type != IPV6_RTHDR_TYPE_0 && type != 2 && type != 4) {
        return "a routing header of an unknown type has segments left";
    }
    if (left > (end - addresses) / IPV6_ADDRESS_SIZE) {
        return "a routing header has more segments left than addresses";
    }
    /* Segment routing (type 4) has its addresses in reverse; mobility (type 2) has but one. */
    walk->to = walk->bytes + (type == IPV6_RTHDR_TYPE_0 ? end - IPV6_ADDRESS_SIZE : addresses);
    return NULL;
}

/* Under mobility the packet's true sender is the home address. */
static void
walk_destination_options(struct walk *walk, size_t end)
{
    struct option home;

    if (find_option(walk, walk->at + 2, end, IPV6_OPTION_HOME_ADDRESS, &home)
        && home.size == IPV6_ADDRESS_SIZE) {
        walk->from = home.value;
    }
}

static void
walk_fragment(struct walk *walk)
{
    /* One that is neither followed nor preceded by others is whole. */
    walk->fragment = (read_u16(walk->bytes + walk->at + 2) & 0xfff9) != 0;
}

/* Whether a header of this type is followed by another one. */
static bool
walk_continues(const struct walk *walk)
{
    switch (walk->protocol) {
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_FRAGMENT:
    case IPPROTO_DSTOPTS:
        return walk->version == 6 && !walk->fragment;
    case IPPROTO_AH:
        return !walk->fragment;
    default:
        return false;
    }
}

/* The length of an extension header whose second byte is `length`. */
static size_t
extension_size(uint8_t protocol, uint8_t length)
{
    switch (protocol) {
    case IPPROTO_FRAGMENT:
        return 8;
    case IPPROTO_AH:
        return ((size_t)length + 2) * 4;
    default:
        return ((size_t)length + 1) * 8;
    }
}

static const char *
walk_extension(struct walk *walk, size_t end)
{
    switch (walk->protocol) {
    case IPPROTO_HOPOPTS:
        return walk_hop_by_hop(walk, end);
    case IPPROTO_ROUTING:
        return walk_routing(walk, end);
    case IPPROTO_DSTOPTS:
        walk_destination_options(walk, end);
        return NULL;
    case IPPROTO_FRAGMENT:
        walk_fragment(walk);
        return NULL;
    default:
        return NULL;
    }
}

/* From the extension headers to what is none. */
static const char *
walk_extensions(struct walk *walk)
{
    while (walk_continues(walk)) {
        const char *wrong;
        uint8_t next;
        size_t size;

        if (walk->size - walk->at < 8) {
            return "an extension header is cut short";
        }
        next = walk->bytes[walk->at];
        size = extension_size(walk->protocol, walk->bytes[walk->at + 1]);
        if (size > walk->size - walk->at) {
            return "an extension header is cut short";
        }
        wrong = walk_extension(walk, walk->at + size);
        if (wrong != NULL) {
            return wrong;
        }
        walk->at += size;
        walk->protocol = next;
    }
    return NULL;
}

static const char *
walk_ipv6(struct walk *walk)
{
    size_t length;

    if (walk->size < IPV6_HEADER_SIZE) {
        return "the packet is shorter than an IPv6 header";
    }
    length = read_u16(walk->bytes + 4);
    walk->endless = length == 0;
    if (length > walk->size - IPV6_HEADER_SIZE) {
        return "the IPv6 packet is cut short";
    }
    walk->size = walk->endless ? walk->size : IPV6_HEADER_SIZE + length;
    walk->at = IPV6_HEADER_SIZE;
    walk->protocol = walk->bytes[6];
    walk->address_size = IPV6_ADDRESS_SIZE;
    walk->from = walk->bytes + 8;
    walk->to = walk->bytes + 24;
    return NULL;
}

static const char *
walk_headers(struct walk *walk)
{
    const char *wrong;

    walk->version = walk->size > 0 ? walk->bytes[0] >> 4 : 0;
    if (walk->version != 4 && walk->version != 6) {
        return "the packet is neither IPv4 nor IPv6";
    }
    wrong = walk->version == 4 ? walk_ipv4(walk) : walk_ipv6(walk);
    if (wrong == NULL) {
        wrong = walk_extensions(walk);
    }
    if (wrong != NULL) {
        return wrong;
    }
    /* What the kernel makes longer than a length can say, to cut it up later, is TCP. */
    if (walk->endless && walk->protocol != IPPROTO_TCP && walk->protocol != IPPROTO_NONE) {
        return "the length of a packet that is not TCP is 0";
    }
    return walk->size > UINT32_MAX ? "the packet is longer than 4 GiB" : NULL;
}

/* ---- transports ---- */

static const struct transport *
find_transport(const struct walk *walk)
{
    for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
        if (transports[i].protocol == walk->protocol
            && (transports[i].version == 0 || transports[i].version == walk->version)) {
            return &transports[i];
        }
    }
    return NULL;
}

static const char *
cover_tcp(const unsigned char *header, const struct cover *cover)
{
    size_t header_size = (size_t)(header[12] >> 4) * 4;

    if (header_size < 20) {
        return "the TCP header's own length is below 20 bytes";
    }
    return header_size > cover->size ? "the TCP header is cut short" : NULL;
}

static const char *
cover_udp(const unsigned char *header, const struct walk *walk, struct cover *cover)
{
    size_t length = read_u16(header + 4);

    if (length == 0 && walk->version == 6) {
        length = cover->size; /* of a jumbogram; the kernel takes it so in any packet */
    }
    if (length < UDP_HEADER_SIZE) {
        return "the UDP datagram is shorter than its header";
    }
    if (length > cover->size) {
        return "the UDP datagram is cut short";
    }
    cover->length = cover->size = length;
    /* Over IPv6 tunnels alone may have none, and the segments of one must not get a sum. */
    cover->none =
        read_u16(header + 6) == 0 && (walk->version == 4 || (walk->skb_info & NFQA_SKB_GSO) != 0);
    return NULL;
}

static const char *
cover_udplite(const unsigned char *header, struct cover *cover)
{
    size_t coverage = read_u16(header + 4);

    if (coverage == 0) {
        return NULL;
    }
    if (coverage < UDP_HEADER_SIZE) {
        return "the UDP-Lite checksum does not cover its header";
    }
    if (coverage > cover->size) {
        return "the UDP-Lite checksum covers more than the datagram";
    }
    cover->size = coverage;
    return NULL;
}

static const char *
cover_gre(const unsigned char *header, struct cover *cover)
{
    uint16_t flags = read_u16(header);

    cover->none = (flags & GRE_CHECKSUM) == 0 || (flags & GRE_VERSION) != 0;
    if (!cover->none && cover->size < GRE_HEADER_SIZE + GRE_FIELD_SIZE) {
        return "the transport header is cut short";
    }
    return NULL;
}

static const char *
cover_transport(const struct walk *walk, const struct transport *transport, struct cover *cover)
{
    const unsigned char *header = walk->bytes + walk->at;

    cover->length = cover->size = walk->size - walk->at;
    cover->none = false;
    if (cover->size < transport->header_size) {
        return "the transport header is cut short";
    }
    switch (walk->protocol) {
    case IPPROTO_TCP:
        return cover_tcp(header, cover);
    case IPPROTO_UDP:
        return cover_udp(header, walk, cover);
    case IPPROTO_UDPLITE:
        return cover_udplite(header, cover);
    case IPPROTO_GRE:
        return cover_gre(header, cover);
    default:
        return NULL;
    }
}

/* ---- layers ---- */

static const char *
read_layer(struct layer *layer, const unsigned char *packet, size_t size, uint32_t skb_info)
{
    const char *wrong;

    layer->walk = (struct walk){.bytes = packet, .size = size, .skb_info = skb_info};
    wrong = walk_headers(&layer->walk);
    if (wrong != NULL) {
        return wrong;
    }
    layer->transport = layer->walk.fragment ? NULL : find_transport(&layer->walk);
    return layer->transport != NULL ? cover_transport(&layer->walk, layer->transport, &layer->cover)
                                    : NULL;
}

/* A frame's packet, behind its VLAN tags. */
static bool
open_frame(const struct walk *walk, struct inner *inner)
{
    size_t at = inner->at + ETHERNET_TYPE;

    while (at + sizeof(inner->type) <= inner->end) {
        inner->type = read_u16(walk->bytes + at);
        if (inner->type != ETH_P_8021Q && inner->type != ETH_P_8021AD) {
            inner->at = at + sizeof(inner->type);
            return true;
        }
        at += VLAN_TAG_SIZE;
    }
    return false;
}

static bool
open_gre(const struct walk *walk, struct inner *inner)
{
    uint16_t flags = read_u16(walk->bytes + inner->at);

    if ((flags & (GRE_VERSION | GRE_ROUTING)) != 0) {
        return false;
    }
    inner->type = read_u16(walk->bytes + inner->at + 2);
    inner->at += GRE_HEADER_SIZE;
    for (uint16_t flag = GRE_CHECKSUM; flag >= GRE_SEQUENCE; flag >>= 1) {
        inner->at += (flags & flag) != 0 ? GRE_FIELD_SIZE : 0;
    }
    return true;
}

/* VXLAN, also with a group policy, holds frames. */
static bool
open_vxlan(const unsigned char *header, struct inner *inner)
{
    bool plain = header[0] == 0x08 && header[1] == 0 && read_u16(header + 2) == 0;
    bool policy = header[0] == 0x88;

    inner->at += VXLAN_HEADER_SIZE;
    inner->type = ETH_P_TEB;
    return plain || policy;
}

/* The first byte is a version, 0, and how many times four bytes of options there are. */
static bool
open_geneve(const unsigned char *header, struct inner *inner)
{
    inner->at += GENEVE_HEADER_SIZE + (size_t)(header[0] & 0x3f) * 4;
    inner->type = read_u16(header + 2);
    return header[0] >> 6 == 0;
}

/*
 * Tunnels are known by their ports. If the kernel has left a checksum to be filled in, it may be
 * that of a tunnel with another port: then the form of its header is enough. Only an inner packet
 * that is valid to its end is corrected. If data only looks like a tunnel, nothing changes as long
 * as the checksums are right.
 */
static bool
open_udp(const struct walk *walk, struct inner *inner)
{
    const unsigned char *header = walk->bytes + inner->at;
    uint16_t port = read_u16(header + 2);
    struct inner vxlan;

    inner->at += UDP_HEADER_SIZE;
    if ((port != VXLAN_PORT && port != VXLAN_OLD_PORT && port != GENEVE_PORT
         && (walk->skb_info & NFQA_SKB_CSUMNOTREADY) == 0)
        || inner->end - inner->at < VXLAN_HEADER_SIZE) {
        return false;
    }
    vxlan = *inner;
    if (open_vxlan(header + UDP_HEADER_SIZE, &vxlan)) {
        *inner = vxlan;
        return true;
    }
    return open_geneve(header + UDP_HEADER_SIZE, inner);
}

/* What is behind the headers that say what follows. */
static bool
open_tunnel(const struct layer *layer, struct inner *inner)
{
    const struct walk *walk = &layer->walk;

    *inner = (struct inner){.at = walk->at, .end = walk->size};
    if (walk->fragment) {
        return false;
    }
    switch (walk->protocol) {
    case IPPROTO_IPIP:
        inner->type = ETH_P_IP;
        return true;
    case IPPROTO_IPV6:
        inner->type = ETH_P_IPV6;
        return true;
    case IPPROTO_GRE:
        return open_gre(walk, inner);
    case IPPROTO_UDP:
        inner->end = walk->at + layer->cover.size;
        return open_udp(walk, inner);
    default:
        return false;
    }
}

/* Reads the packet that another one carries. False if there is none, or none that makes sense. */
static bool
read_inner(const struct layer *outer, struct layer *layer)
{
    const struct walk *walk = &outer->walk;
    struct inner inner;
    uint8_t version;

    if (!open_tunnel(outer, &inner) || (inner.type == ETH_P_TEB && !open_frame(walk, &inner))
        || inner.at >= inner.end) {
        return false;
    }
    version = walk->bytes[inner.at] >> 4;
    return ((inner.type == ETH_P_IP && version == 4) || (inner.type == ETH_P_IPV6 && version == 6))
           && read_layer(layer, walk->bytes + inner.at, inner.end - inner.at, walk->skb_info)
                  == NULL;
}

/* Reads a packet and those in it, the outermost first, and says how many. */
static const char *
read_layers(struct layer layers[LNFQ_CHECKSUM_LAYERS], const unsigned char *packet, size_t size,
            uint32_t skb_info, size_t *count)
{
    const char *wrong = read_layer(&layers[0], packet, size, skb_info);

    *count = 0;
    if (wrong != NULL) {
        return wrong;
    }
    do {
        ++*count;
    } while (*count < LNFQ_CHECKSUM_LAYERS && read_inner(&layers[*count - 1], &layers[*count]));
    return NULL;
}

/* Whether a layer has a checksum behind its IP header. */
static bool
has_checksum(const struct layer *layer)
{
    return layer->transport != NULL && !layer->cover.none;
}

/* ---- corrections ---- */

/* Where a UDP checksum starts. The kernel goes on from there when it cuts a packet into segments.
 */
static uint16_t
sum_pseudo_header(const struct layer *layer)
{
    return (uint16_t)~finish(add_pseudo_header(0, &layer->walk, layer->cover.length));
}

static uint16_t
sum_transport(const struct layer *layer)
{
    const struct walk *walk = &layer->walk;
    const struct transport *transport = layer->transport;
    uint64_t sum = 0;
    uint16_t checksum;

    if (transport->pseudo) {
        sum = add_pseudo_header(sum, walk, layer->cover.length);
    }
    sum = add_around(sum, walk->bytes + walk->at, layer->cover.size, transport->checksum);
    checksum = finish(sum);
    return checksum == 0 && transport->never_zero ? 0xffff : checksum;
}

/* `header` is the transport's, as in the functions below; they alone write. */
static void
correct_transport(const struct layer *layer, unsigned char *header)
{
    unsigned char *checksum = header + layer->transport->checksum;

    switch (layer->walk.protocol) {
    case IPPROTO_SCTP:
        write_crc(checksum, crc_around(header, layer->cover.size, layer->transport->checksum));
        return;
    case IPPROTO_UDP:
        if ((layer->walk.skb_info & NFQA_SKB_GSO) != 0) {
            write_sum(checksum, sum_pseudo_header(layer));
            return;
        }
        break;
    default:
        break;
    }
    write_sum(checksum, sum_transport(layer));
}

static void
correct_layer(const struct layer *layer, unsigned char *packet)
{
    const struct walk *walk = &layer->walk;

    if (has_checksum(layer)) {
        correct_transport(layer, packet + walk->at);
    }
    if (walk->version == 4) {
        write_sum(packet + IPV4_CHECKSUM,
                  finish(add_around(0, packet, walk->header_size, IPV4_CHECKSUM)));
    }
}

/* Whether there is a checksum which the kernel may have left open. */
static bool
any_checksum(const struct layer *layers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (has_checksum(&layers[i])) {
            return true;
        }
    }
    return false;
}

/* ---- segments ---- */

/* A UDP checksum that is what segmentation starts with, and not by chance complete as well. */
static bool
is_started(const struct layer *layer)
{
    const struct walk *walk = &layer->walk;
    uint16_t checksum;

    if (walk->protocol != IPPROTO_UDP || !has_checksum(layer)) {
        return false;
    }
    memcpy(&checksum, walk->bytes + walk->at + layer->transport->checksum, sizeof(checksum));
    return checksum == sum_pseudo_header(layer) && checksum != sum_transport(layer);
}

static const char *
find_unfit(const struct layer *layers, size_t count, bool local)
{
    for (size_t i = 0; i < count; i++) {
        if (layers[i].transport != NULL && layers[i].walk.protocol == IPPROTO_SCTP) {
            return "SCTP of several segments can't be replaced; leave NFQA_CFG_F_GSO out";
        }
        if (local && is_started(&layers[i])) {
            return "on its way in a packet is not cut into segments any more, and needs complete "
                   "checksums; call update_checksums() without NFQA_SKB_GSO";
        }
    }
    return NULL;
}

/* ---- what others call ---- */

const char *
lnfq_checksum_unfit(const unsigned char *packet, size_t size, bool local)
{
    struct layer layers[LNFQ_CHECKSUM_LAYERS];
    size_t count;

    (void)read_layers(layers, packet, size, NFQA_SKB_GSO | NFQA_SKB_CSUMNOTREADY, &count);
    return find_unfit(layers, count, local);
}

const char *
lnfq_checksum_update(unsigned char *packet, size_t size, uint32_t skb_info)
{
    struct layer layers[LNFQ_CHECKSUM_LAYERS];
    size_t count;
    const char *wrong = read_layers(layers, packet, size, skb_info, &count);

    if (wrong == NULL && (skb_info & NFQA_SKB_CSUMNOTREADY) != 0 && !any_checksum(layers, count)) {
        wrong = "the checksum that is not ready is of an unknown kind";
    }
    if (wrong == NULL && (skb_info & NFQA_SKB_GSO) != 0) {
        wrong = find_unfit(layers, count, false);
    }
    if (wrong != NULL) {
        return wrong;
    }
    while (count-- > 0) {
        correct_layer(&layers[count], packet + (layers[count].walk.bytes - packet));
    }
    return NULL;
}
