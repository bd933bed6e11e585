/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checksums of IP packets, without Python.
 *
 * libnetfilter_queue's own functions (nfq_ip_set_checksum, nfq_tcp_compute_checksum_ipv4 and their
 * siblings) don't serve here, for these reasons. They do not know the buffer's length, and trust
 * the lengths in the packet. They read the packet as 16-bit numbers at any address. They know only
 * TCP and UDP. They use the IPv6 header's destination also when a routing header names the final
 * one. They write a UDP checksum of 0 as it is, although 0 means that there is none.
 *
 * The bytes may come from anyone and may change while they are looked at: every length is read
 * once, checked, and kept. Nothing here allocates, locks or keeps a pointer.
 */
#ifndef LNFQ_CHECKSUM_H
#define LNFQ_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many packets are looked at, each in the tunnel of the one before; the first is in none. */
#define LNFQ_CHECKSUM_LAYERS 4

/*
 * Corrects the checksums of the packet at the start of the buffer, from the IP header on, and of
 * the packets in it, if it is a tunnel's. What lies behind the packet is left alone. skb_info is
 * what the kernel says of the packet (NFQA_SKB_INFO), or 0. Returns NULL, or what is wrong with the
 * packet (a static string); then nothing was written.
 */
const char *lnfq_checksum_update(unsigned char *packet, size_t size, uint32_t skb_info);

/*
 * Why these bytes can't replace a packet that is several segments in one piece (NFQA_SKB_GSO), or
 * NULL: the kernel loses it for certain, or worse. `local` says that the packet is on its way to a
 * socket of this host.
 */
const char *lnfq_checksum_unfit(const unsigned char *packet, size_t size, bool local);

#endif
