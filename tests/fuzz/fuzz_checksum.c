/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whatever the bytes are, correcting their checksums touches nothing outside,
 * changes nothing when it fails, changes nothing the second time, and gives what another way of
 * summing gives, which trusts the lengths and goes byte by byte.
 */
#include "checksum.h"

#include "fuzz.h"

/* A packet that has been called valid. */
struct reading {
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

static void
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
    else if (packet->protocol == 17 && (packet->six || number(header + 6, 2) != 0)) {
        declared = number(header + 4, 2);
        length = declared > 0 ? declared : length;
        sum_transport(packet, 6, length, length, true);
    }
    else if (packet->protocol == 136) {
        declared = number(header + 4, 2);
        sum_transport(packet, 6, declared > 0 ? declared : length, length, true);
    }
}

static void
reference(uint8_t *bytes, size_t size)
{
    struct reading packet = {.bytes = bytes, .six = bytes[0] >> 4 == 6};

    if (packet.six) {
        read_six(&packet, size);
    }
    else {
        read_four(&packet, size);
    }
    read_extensions(&packet);
    if (packet.whole) {
        correct(&packet);
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *once = copy(data, size);
    uint8_t *other = copy(data, size);

    if (lnfq_checksum_update(once + 1, size) == NULL) {
        reference(other + 1, size);
        require(memcmp(once + 1, other + 1, size) == 0);
        require(lnfq_checksum_update(once + 1, size) == NULL);
    }
    require(size == 0 || memcmp(once + 1, other + 1, size) == 0);
    free(once);
    free(other);
    return 0;
}
