/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that wait to be sent; see outbox.h.
 */
#include "outbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport.h"

/* What netlink and Unix sockets keep of the send buffer for themselves. */
#define SEND_RESERVE 32

/* A datagram no larger than this fits every send buffer that can be set, without asking. */
#define SEND_ALWAYS 2048

#define CAPACITY_START 4096

/* Pieces of one datagram: a message with a payload takes three. */
#define PIECES_MAX 192

/* Room for one message with so many bytes of options: at most a part of what an empty outbox has.
 */
static int
reserve(struct lnfq_outbox *outbox, size_t options)
{
    size_t capacity = outbox->capacity != 0 ? outbox->capacity * 2 : CAPACITY_START;
    unsigned char *bytes;

    if (outbox->capacity - outbox->used >= LNFQ_VERDICT_SIZE_MAX + options) {
        return 0;
    }
    bytes = realloc(outbox->bytes, capacity);
    if (bytes == NULL) {
        return ENOMEM;
    }
    outbox->bytes = bytes;
    outbox->capacity = capacity;
    return 0;
}

int
lnfq_outbox_init(struct lnfq_outbox *outbox)
{
    memset(outbox, 0, sizeof(*outbox));
    outbox->enclosures_end = &outbox->enclosures;
    return reserve(outbox, 0);
}

/* The value of a number that is absent is 0. */
static bool
same_number(struct lnfq_optional a, struct lnfq_optional b)
{
    return a.there == b.there && a.value == b.value;
}

/* Whether a batch verdict can carry it. */
static bool
plain(const struct lnfq_verdict *verdict)
{
    return verdict->payload == NULL && verdict->options == NULL;
}

/* Whether a batch verdict that carries the one can carry the other too. */
static bool
equal(const struct lnfq_verdict *a, const struct lnfq_verdict *b)
{
    return plain(b) && a->verdict == b->verdict && a->reason == b->reason
           && same_number(a->mark, b->mark) && same_number(a->priority, b->priority);
}

/* Notes the payload that belongs behind the message which ends at `end`. */
static int
enclose(struct lnfq_outbox *outbox, size_t end, const struct lnfq_verdict *verdict)
{
    struct lnfq_enclosure *enclosure = malloc(sizeof(*enclosure));

    if (enclosure == NULL) {
        return ENOMEM;
    }
    *enclosure = (struct lnfq_enclosure){
        .end = end,
        .payload = verdict->payload,
        .size = verdict->payload_size,
        .owner = verdict->owner,
    };
    *outbox->enclosures_end = enclosure;
    outbox->enclosures_end = &enclosure->next;
    return 0;
}

/* Notes a message that was built behind the others. */
static void
append(struct lnfq_outbox *outbox, size_t end, uint16_t queue, const struct lnfq_verdict *verdict,
       bool batch)
{
    outbox->several = outbox->used > 0;
    outbox->growing = batch && plain(verdict);
    outbox->last = outbox->used;
    outbox->queue = queue;
    outbox->verdict = *verdict;
    outbox->used = end;
}

int
lnfq_outbox_add(struct lnfq_outbox *outbox, uint16_t queue, uint32_t id,
                const struct lnfq_verdict *verdict, bool batch)
{
    size_t end;

    if (batch && outbox->growing && outbox->queue == queue && equal(&outbox->verdict, verdict)) {
        lnfq_verdict_extend(outbox->bytes + outbox->last, id);
        outbox->several = true;
        return 0;
    }
    if (reserve(outbox, verdict->options != NULL ? verdict->options->size : 0) != 0) {
        return ENOMEM;
    }
    end = outbox->used + lnfq_verdict_put(outbox->bytes + outbox->used, queue, id, verdict);
    if (verdict->payload != NULL && enclose(outbox, end, verdict) != 0) {
        return ENOMEM;
    }
    append(outbox, end, queue, verdict, batch);
    return 0;
}

int
lnfq_outbox_add_batch(struct lnfq_outbox *outbox, uint16_t queue, uint32_t up_to,
                      const struct lnfq_verdict *verdict)
{
    size_t size;

    if (reserve(outbox, 0) != 0) {
        return ENOMEM;
    }
    size = lnfq_verdict_put_batch(outbox->bytes + outbox->used, queue, up_to, up_to, verdict);
    append(outbox, outbox->used + size, queue, verdict, false);
    outbox->several = true;
    return 0;
}

/* How many bytes one datagram may have now; a user may have changed the send buffer. */
static size_t
send_limit(int fd)
{
    int buffer;

    if (lnfq_transport_get_option(fd, SOL_SOCKET, SO_SNDBUF, &buffer) != 0
        || buffer < SEND_ALWAYS + SEND_RESERVE) {
        return SEND_ALWAYS;
    }
    return (size_t)buffer - SEND_RESERVE;
}

/* The first enclosure is done with. */
static void
finish_enclosure(struct lnfq_outbox *outbox)
{
    struct lnfq_enclosure *enclosure = outbox->enclosures;

    outbox->enclosures = enclosure->next;
    if (outbox->enclosures == NULL) {
        outbox->enclosures_end = &outbox->enclosures;
    }
    enclosure->next = outbox->done;
    outbox->done = enclosure;
}

/* A message in the outbox, or the part of a datagram that was put together so far. */
struct stretch {
    size_t inner; /* bytes in the outbox */
    size_t outer; /* bytes on the wire */
    uint16_t queue;
};

/* The message at `at`; `enclosure` is the first one that may be its. */
static struct stretch
measure(const struct lnfq_outbox *outbox, size_t at, const struct lnfq_enclosure *enclosure)
{
    struct nlmsghdr header;
    struct nfgenmsg family;
    struct stretch message;

    memcpy(&header, outbox->bytes + at, sizeof(header));
    memcpy(&family, outbox->bytes + at + NLMSG_HDRLEN, sizeof(family));
    message.outer = NLMSG_ALIGN((size_t)header.nlmsg_len);
    message.inner = message.outer;
    message.queue = ntohs(family.res_id);
    if (enclosure != NULL && enclosure->end < at + message.outer) {
        message.inner = enclosure->end - at;
    }
    return message;
}

/* Adds the payload, and what pads it, to the pieces of a datagram. */
static size_t
add_payload(struct iovec *pieces, const struct lnfq_enclosure *enclosure)
{
    static const unsigned char padding[NLMSG_ALIGNTO];
    size_t missing = NLMSG_ALIGN(enclosure->size) - enclosure->size;

    pieces[0] = (struct iovec){(void *)(uintptr_t)enclosure->payload, enclosure->size};
    pieces[1] = (struct iovec){(void *)(uintptr_t)padding, missing};
    return missing > 0 ? 2 : 1;
}

/*
 * Puts the whole messages from `at` on that fit in `limit` together; one that is larger goes alone.
 * Returns how many bytes of the outbox they take.
 */
static size_t
assemble(const struct lnfq_outbox *outbox, size_t limit, struct iovec pieces[PIECES_MAX],
         size_t *count)
{
    const struct lnfq_enclosure *enclosure = outbox->enclosures;
    size_t inner = 0, outer = 0, start = 0;

    *count = 0;
    while (inner < outbox->used && *count <= PIECES_MAX - 3) {
        struct stretch message = measure(outbox, inner, enclosure);

        if (outer > 0 && outer + message.outer > limit) {
            break;
        }
        inner += message.inner;
        outer += message.outer;
        if (message.inner < message.outer) {
            pieces[(*count)++] = (struct iovec){outbox->bytes + start, inner - start};
            *count += add_payload(&pieces[*count], enclosure);
            enclosure = enclosure->next;
            start = inner;
        }
    }
    if (inner > start) {
        pieces[(*count)++] = (struct iovec){outbox->bytes + start, inner - start};
    }
    return inner;
}

/* Takes some bytes out; `behind` is the first enclosure whose message stands behind them. */
static void
close_hole(struct lnfq_outbox *outbox, size_t at, size_t size, struct lnfq_enclosure *behind)
{
    for (; behind != NULL; behind = behind->next) {
        behind->end -= size;
    }
    outbox->used -= size;
    memmove(outbox->bytes + at, outbox->bytes + at + size, outbox->used - at);
}

/* The first bytes are done with. */
static void
consume(struct lnfq_outbox *outbox, size_t size)
{
    while (outbox->enclosures != NULL && outbox->enclosures->end <= size) {
        finish_enclosure(outbox);
    }
    close_hole(outbox, 0, size, outbox->enclosures);
}

/* Whether one datagram takes it all, without asking how much that may be. */
static bool
small(const struct lnfq_outbox *outbox)
{
    return outbox->used <= SEND_ALWAYS && outbox->enclosures == NULL;
}

/* Sends the first messages, as many as fit in `limit` together. Returns 0 or an errno. */
static int
send_up_to(struct lnfq_outbox *outbox, int fd, size_t limit)
{
    struct iovec pieces[PIECES_MAX];
    size_t size = outbox->used;
    size_t count;
    int error;

    if (small(outbox) && size <= limit) { /* a single verdict, most often */
        error = lnfq_transport_send(fd, outbox->bytes, size);
    }
    else {
        size = assemble(outbox, limit, pieces, &count);
        error = lnfq_transport_send_pieces(fd, pieces, count);
    }
    if (error == 0) {
        consume(outbox, size);
    }
    return error;
}

/* Sends the first messages, as many as one datagram may have. Returns 0 or an errno; EMSGSIZE where
 * the first one alone is too large. */
static int
send_datagram(struct lnfq_outbox *outbox, int fd, size_t *limit)
{
    int error = send_up_to(outbox, fd, *limit);

    if (error == EMSGSIZE && *limit > 0) { /* somebody has made the send buffer smaller */
        *limit = 0;
        error = send_up_to(outbox, fd, *limit);
    }
    return error;
}

static uint32_t
message_id(const struct lnfq_outbox *outbox, size_t at)
{
    return lnfq_verdict_id(outbox->bytes + at);
}

void
lnfq_outbox_first(const struct lnfq_outbox *outbox, uint16_t *queue, uint32_t *id)
{
    *queue = measure(outbox, 0, outbox->enclosures).queue;
    *id = message_id(outbox, 0);
}

bool
lnfq_outbox_ends_with(const struct lnfq_outbox *outbox, uint16_t queue, uint32_t id)
{
    return outbox->used > 0 && outbox->queue == queue && message_id(outbox, outbox->last) == id;
}

bool
lnfq_outbox_replace(struct lnfq_outbox *outbox, uint32_t verdict)
{
    const struct lnfq_verdict plain = {.verdict = verdict, .reason = LNFQ_REASON_TOO_LARGE};
    struct stretch first = measure(outbox, 0, outbox->enclosures);
    uint32_t id = message_id(outbox, 0);
    size_t size;

    if (first.inner == first.outer) {
        return false;
    }
    size = lnfq_verdict_put(outbox->bytes, first.queue, id, &plain);
    finish_enclosure(outbox);
    close_hole(outbox, size, first.inner - size, outbox->enclosures);
    return true;
}

/* Takes one message out. */
static void
cut_out(struct lnfq_outbox *outbox, size_t at, size_t size, struct lnfq_enclosure **enclosure)
{
    struct lnfq_enclosure *own = *enclosure;

    if (own != NULL && own->end == at + size) {
        *enclosure = own->next;
        if (own->next == NULL) {
            outbox->enclosures_end = enclosure;
        }
        own->next = outbox->done;
        outbox->done = own;
    }
    close_hole(outbox, at, size, *enclosure);
}

/* Takes out all batch verdicts, or all verdicts for one queue. Returns how many. */
static size_t
cut_out_all(struct lnfq_outbox *outbox, bool batches, uint16_t queue)
{
    struct lnfq_enclosure **enclosure = &outbox->enclosures;
    size_t at = 0, count = 0;

    while (at < outbox->used) {
        struct stretch message = measure(outbox, at, *enclosure);

        if (batches ? lnfq_verdict_is_batch(outbox->bytes + at) : message.queue == queue) {
            cut_out(outbox, at, message.inner, enclosure);
            count += 1;
            continue;
        }
        if (message.inner < message.outer) {
            enclosure = &(*enclosure)->next;
        }
        at += message.inner;
    }
    return count;
}

bool
lnfq_outbox_is_lone(const struct lnfq_outbox *outbox)
{
    return outbox->used > 0 && !outbox->several;
}

bool
lnfq_outbox_doubts(const struct lnfq_outbox *outbox, bool several)
{
    return outbox->refusable && !((several || outbox->ask) && lnfq_transport_permitted());
}

void
lnfq_outbox_doubt(struct lnfq_outbox *outbox)
{
    pid_t thread = lnfq_transport_thread();

    if (outbox->unconfirmed && outbox->doubted != thread) {
        thread = 0;
    }
    outbox->doubted = thread;
    outbox->unconfirmed = true;
}

bool
lnfq_outbox_doubted_here(const struct lnfq_outbox *outbox)
{
    return outbox->doubted == lnfq_transport_thread();
}

int
lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends)
{
    size_t limit = small(outbox) ? SEND_ALWAYS : send_limit(fd);
    bool doubt = outbox->used > 0 && lnfq_outbox_doubts(outbox, outbox->several);
    uint64_t sent = 0;
    int error = 0;

    outbox->growing = false;
    while (outbox->used > 0 && error == 0) {
        error = send_datagram(outbox, fd, &limit);
        sent += error == 0;
    }
    if (doubt && sent > 0) {
        lnfq_outbox_doubt(outbox);
        /* No batch verdict in the rest may stand behind what has left and may be refused: they
         * count as refused with that. */
        outbox->withdrawn += cut_out_all(outbox, true, 0);
    }
    *sends += sent;
    return error;
}

void
lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue)
{
    outbox->growing = false;
    (void)cut_out_all(outbox, false, queue);
}

bool
lnfq_outbox_find(const struct lnfq_outbox *outbox, uint16_t queue, size_t *from, uint32_t *id)
{
    const struct lnfq_enclosure *enclosure = outbox->enclosures;
    size_t at = 0;

    while (at < outbox->used) {
        struct stretch message = measure(outbox, at, enclosure);

        if (at >= *from && message.queue == queue) {
            *id = message_id(outbox, at);
            *from = at + message.inner;
            return true;
        }
        if (message.inner < message.outer) {
            enclosure = enclosure->next;
        }
        at += message.inner;
    }
    return false;
}

struct lnfq_enclosure *
lnfq_outbox_take_done(struct lnfq_outbox *outbox)
{
    struct lnfq_enclosure *done = outbox->done;

    outbox->done = NULL;
    return done;
}

void
lnfq_outbox_clear(struct lnfq_outbox *outbox)
{
    if (outbox->used > 0) {
        consume(outbox, outbox->used);
    }
    free(outbox->bytes);
    outbox->bytes = NULL;
    outbox->capacity = 0;
}
