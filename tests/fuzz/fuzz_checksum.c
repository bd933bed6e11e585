/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whatever the bytes are, correcting their checksums touches nothing outside,
 * changes nothing when it fails, changes nothing the second time, and gives what another way of
 * summing gives, which trusts the lengths and goes byte by byte. In a tunnel the inner packet is
 * corrected as it is by itself, or left as it is if it is refused by itself.
 */
#include "checksum.h"

#include <linux/netfilter/nfnetlink_queue.h>

#include "fuzz.h"

static const uint32_t infos[] = {0, NFQA_SKB_CSUMNOTREADY, NFQA_SKB_GSO,
                                 NFQA_SKB_CSUMNOTREADY | NFQA_SKB_GSO};

/* What has been found in a packet and in those inside. */
struct found {
    bool checksum;
    bool sctp;
};

/* A packet that has been called valid. */
struct reading {
    uint32_t info;
    uint8_t *bytes;
    size_t end;
    size_t at;
    bool whole;
    bool endless;
    bool six;
    uint8_t protocol;
    const uint8_t *from;
    const uint8_t *to;
};

static size_t
number(const uint8_t *bytes, unsigned int size)
{
    size_t value = 0;

    for (unsigned int i = 0; i < size; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static uint32_t
add(uint32_t sum, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

static void
put(uint8_t *bytes, uint32_t checksum)
{
    bytes[0] = (uint8_t)(checksum >> 8);
    bytes[1] = (uint8_t)checksum;
}

/* The value of an option, with its length right before it; or NULL. */
static const uint8_t *
option(const struct reading *packet, size_t at, size_t end, uint8_t type)
{
    while (at + 2 <= end) {
        size_t size = packet->bytes[at + 1] + (packet->six ? 2U : 0U);

        if (packet->bytes[at] == (packet->six ? 0 : 1)) {
            at += 1;
            continue;
        }
        if ((!packet->six && packet->bytes[at] == 0) || size < 2 || at + size > end) {
            return NULL;
        }
        if (packet->bytes[at] == type) {
            return packet->bytes + at + 2;
        }
        at += size;
    }
    return NULL;
}

static void
read_four(struct reading *packet, size_t size)
{
    const uint8_t *route;
    uint8_t *bytes = packet->bytes;

    packet->at = (bytes[0] & 15U) * 4;
    packet->end = number(bytes + 2, 2) > 0 ? number(bytes + 2, 2) : size;
    packet->whole = (number(bytes + 6, 2) & 0x3fff) == 0;
    packet->protocol = bytes[9];
    packet->from = bytes + 12;
    packet->to = bytes + 16;
    route = option(packet, 20, packet->at, 131);
    if (route == NULL) {
        route = option(packet, 20, packet->at, 137);
    }
    if (route != NULL && route[-1] >= 7 && route[0] <= route[-1]) {
        packet->to = route + route[-1] - 6;
    }
    put(bytes + 10, 0);
    put(bytes + 10, ~add(0, bytes, packet->at) & 0xffff);
}

static void
read_six(struct reading *packet, size_t size)
{
    size_t length = number(packet->bytes + 4, 2);

    packet->at = 40;
    packet->end = length > 0 ? 40 + length : size;
    packet->endless = length == 0;
    packet->whole = true;
    packet->protocol = packet->bytes[6];
    packet->from = packet->bytes + 8;
    packet->to = packet->bytes + 24;
}

static void
read_extension(struct reading *packet, size_t size)
{
    const uint8_t *header = packet->bytes + packet->at;
    size_t end = packet->at + size;
    const uint8_t *found;

    if (packet->protocol == 0 && packet->endless) {
        found = option(packet, packet->at + 2, end, 0xc2);
        packet->end = found != NULL ? 40 + number(found, 4) : packet->end;
        packet->endless = found == NULL;
    }
    if (packet->protocol == 43 && header[3] > 0) {
        packet->to = header[2] == 0 ? header + size - 16 : header + 8;
    }
    if (packet->protocol == 44) {
        packet->whole = (number(header + 2, 2) & 0xfff9) == 0;
    }
    if (packet->protocol == 60) {
        found = option(packet, packet->at + 2, end, 0xc9);
        packet->from = found != NULL && found[-1] == 16 ? found : packet->from;
    }
    packet->at = end;
    packet->protocol = header[0];
}

static void
read_extensions(struct reading *packet)
{
    while (packet->whole) {
        const uint8_t *header = packet->bytes + packet->at;

        if (packet->protocol == 51) {
            read_extension(packet, header[1] * 4U + 8);
        }
        else if (packet->six && packet->protocol == 44) {
            read_extension(packet, 8);
        }
        else if (packet->six
                 && (packet->protocol == 0 || packet->protocol == 43 || packet->protocol == 60)) {
            read_extension(packet, header[1] * 8U + 8);
        }
        else {
            return;
        }
    }
}

/* Writes the transport checksum at a place of its header. */
static void
sum_transport(struct reading *packet, size_t place, size_t covered, size_t length, bool pseudo)
{
    uint8_t rest[8] = {0, 0, 0, 0, 0, 0, 0, packet->protocol};
    uint8_t *header = packet->bytes + packet->at;
    size_t address = packet->six ? 16 : 4;
    uint32_t sum = 0;

    put(rest, (uint32_t)(length >> 16));
    put(rest + 2, (uint32_t)length & 0xffff);
    put(header + place, 0);
    if (pseudo) {
        sum = add(add(add(sum, packet->from, address), packet->to, address), rest, sizeof(rest));
    }
    sum = ~add(sum, header, covered) & 0xffff;
    put(header + place, sum == 0 && place == 6 ? 0xffff : sum);
}

/* CRC32c, bit by bit. */
static void
sum_sctp(const struct reading *packet)
{
    uint8_t *header = packet->bytes + packet->at;
    uint32_t crc = 0xffffffff;

    memset(header + 8, 0, 4);
    for (size_t i = 0; i < (packet->end - packet->at) * 8; i++) {
        crc ^= header[i / 8] >> i % 8 & 1U;
        crc = crc % 2 == 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    }
    for (size_t i = 0; i < 4; i++) {
        header[8 + i] = (uint8_t)(~crc >> 8 * i);
    }
}

/* What UDP's checksum starts with is the sum of nothing but the pseudo header. */
static void
sum_udp(struct reading *packet, size_t length)
{
    uint8_t *field = packet->bytes + packet->at + 6;
    size_t address = packet->six ? 16 : 4;
    uint32_t rest = 17 + (uint32_t)(length >> 16) + (uint32_t)(length & 0xffff);
    const uint8_t bytes[4] = {0, (uint8_t)(rest >> 16), (uint8_t)(rest >> 8), (uint8_t)rest};

    if ((packet->info & NFQA_SKB_GSO) == 0) {
        sum_transport(packet, 6, length, length, true);
        return;
    }
    put(field, add(add(add(0, packet->from, address), packet->to, address), bytes, sizeof(bytes)));
}

/* Whether there is a checksum that was corrected. */
static bool
correct(struct reading *packet)
{
    const uint8_t *header = packet->bytes + packet->at;
    size_t length = packet->end - packet->at;
    size_t declared;

    if (packet->protocol == 6) {
        sum_transport(packet, 16, length, length, true);
    }
    else if (packet->protocol == (packet->six ? 58 : 1)) {
        sum_transport(packet, 2, length, length, packet->six);
    }
    else if (packet->protocol == 17
             && ((packet->six && (packet->info & NFQA_SKB_GSO) == 0)
                 || number(header + 6, 2) != 0)) {
        declared = number(header + 4, 2);
        sum_udp(packet, declared > 0 ? declared : length);
    }
    else if (packet->protocol == 136) {
        declared = number(header + 4, 2);
        sum_transport(packet, 6, declared > 0 ? declared : length, length, true);
    }
    else if (packet->protocol == 132) {
        sum_sctp(packet);
    }
    else if (packet->protocol == 47 && (number(header, 2) & 0x8007) == 0x8000) {
        sum_transport(packet, 4, length, length, false);
    }
    else {
        return false;
    }
    return true;
}

/* Where an Ethernet frame's packet begins; its type is told. */
static size_t
behind_ethernet(const struct reading *packet, size_t at, size_t end, size_t *type)
{
    *type = 0x8100;
    for (at += 12; *type == 0x8100 || *type == 0x88a8; at += 4) {
        if (at + 2 > end) {
            return end;
        }
        *type = number(packet->bytes + at, 2);
    }
    return at - 2;
}

/* Where a UDP datagram's packet begins. */
static size_t
behind_udp(const struct reading *packet, size_t end, size_t *type)
{
    const uint8_t *header = packet->bytes + packet->at;
    size_t port = number(header + 2, 2);
    size_t at = packet->at + 16;

    if (at > end
        || (port != 4789 && port != 8472 && port != 6081
            && (packet->info & NFQA_SKB_CSUMNOTREADY) == 0)) {
        return end;
    }
    if (header[8] == 0x88 || number(header + 8, 4) == 0x08000000) {
        *type = 0x6558;
        return at;
    }
    if (header[8] >= 0x40) {
        return end;
    }
    *type = number(header + 10, 2);
    return at + header[8] * 4U;
}

static size_t
behind_gre(const struct reading *packet, size_t *type)
{
    const uint8_t *header = packet->bytes + packet->at;
    size_t fields = (header[0] >> 7 & 1U) + (header[0] >> 5 & 1U) + (header[0] >> 4 & 1U);

    *type = (header[0] & 0x40) == 0 && (header[1] & 7) == 0 ? number(header + 2, 2) : 0;
    return packet->at + 4 + fields * 4;
}

/* The packet inside: where it begins and ends, the same where there is none, and its type. */
static size_t
find_inner(const struct reading *packet, size_t *end, size_t *type)
{
    size_t at, declared;

    *end = packet->end;
    *type = 0;
    if (packet->protocol == 4 || packet->protocol == 41) {
        *type = packet->protocol == 4 ? 0x0800 : 0x86dd;
        return packet->at;
    }
    if (packet->protocol == 47) {
        at = behind_gre(packet, type);
    }
    else if (packet->protocol == 17) {
        declared = number(packet->bytes + packet->at + 4, 2);
        *end = declared > 0 ? packet->at + declared : packet->end;
        at = behind_udp(packet, *end, type);
    }
    else {
        return *end;
    }
    return *type == 0x6558 ? behind_ethernet(packet, at, *end, type) : at;
}

static uint8_t *copy(const uint8_t *data, size_t size);

static void reference(uint8_t *bytes, size_t size, uint32_t info, size_t layers,
                      struct found *found);

static void
correct_inner(struct reading *packet, size_t layers, struct found *found)
{
    size_t end, type;
    size_t at = find_inner(packet, &end, &type);
    uint8_t *inner, *own;

    if (layers == 0 || at >= end || (type != 0x0800 && type != 0x86dd)
        || packet->bytes[at] >> 4 != (type == 0x0800 ? 4 : 6)) {
        return;
    }
    inner = copy(packet->bytes + at, end - at);
    own = copy(packet->bytes + at, end - at);
    if (lnfq_checksum_update(own + 1, end - at, 0) == NULL) {
        reference(inner + 1, end - at, packet->info, layers, found);
        memcpy(packet->bytes + at, inner + 1, end - at);
    }
    free(inner);
    free(own);
}

static void
reference(uint8_t *bytes, size_t size, uint32_t info, size_t layers, struct found *found)
{
    struct reading packet = {.bytes = bytes, .six = bytes[0] >> 4 == 6, .info = info};

    if (packet.six) {
        read_six(&packet, size);
    }
    else {
        read_four(&packet, size);
    }
    read_extensions(&packet);
    if (packet.whole) {
        correct_inner(&packet, layers - 1, found);
        found->checksum |= correct(&packet);
        found->sctp |= packet.protocol == 132;
    }
}

static uint8_t *
copy(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + 1);

    require(bytes != NULL);
    if (size > 0) {
        memcpy(bytes + 1, data, size); /* at an odd address */
    }
    return bytes;
}

/* What has to come of a packet that is valid. */
static bool
expect(uint8_t *bytes, size_t size, uint32_t info)
{
    struct found found = {0};

    reference(bytes, size, info, LNFQ_CHECKSUM_LAYERS, &found);
    return (found.checksum || (info & NFQA_SKB_CSUMNOTREADY) == 0)
           && (!found.sctp || (info & NFQA_SKB_GSO) == 0);
}

/* What is complete can be replaced on its way in, but for SCTP; segments of that never. */
static void
require_fit(const uint8_t *bytes, size_t size)
{
    struct found found = {0};
    uint8_t *other = copy(bytes, size);

    reference(other + 1, size, NFQA_SKB_CSUMNOTREADY, LNFQ_CHECKSUM_LAYERS, &found);
    require((lnfq_checksum_unfit(bytes, size, true) != NULL) == found.sctp);
    require((lnfq_checksum_unfit(bytes, size, false) != NULL) == found.sctp);
    free(other);
}

static void
run(const uint8_t *data, size_t size, uint32_t info, bool valid)
{
    uint8_t *once = copy(data, size);
    uint8_t *other = copy(data, size);
    const char *wrong = lnfq_checksum_update(once + 1, size, info);

    if (valid && expect(other + 1, size, info)) {
        require(wrong == NULL);
        require(memcmp(once + 1, other + 1, size) == 0);
        require(lnfq_checksum_update(once + 1, size, info) == NULL);
        require(memcmp(once + 1, other + 1, size) == 0);
        if (info == NFQA_SKB_CSUMNOTREADY) {
            require_fit(once + 1, size);
        }
    }
    else {
        require(wrong != NULL);
        require(size == 0 || memcmp(once + 1, data, size) == 0);
    }
    free(once);
    free(other);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = copy(data, size);
    bool valid = lnfq_checksum_update(bytes + 1, size, 0) == NULL;

    for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); i++) {
        run(data, size, infos[i], valid);
    }
    (void)lnfq_checksum_unfit(data, size, true);
    free(bytes);
    return 0;
}
