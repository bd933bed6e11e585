/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whoever reads the descriptor, in whatever order what they have read is handed
 * in and answered, and whichever allocation or sending fails, the kernel never gives a packet
 * another verdict than its own; its default where its own could not leave.
 *
 * The bytes play the kernel, three readers that dispatch what they have read in its order, as
 * calls of `process` do, and a stranger who has the descriptor, who hands in what he likes, when he
 * likes, as often as he likes. They decide which packets the kernel loses, which allocations fail,
 * which sendings do, and when CAP_NET_ADMIN is gone, without which the kernel refuses a datagram.
 *
 * The queue may be one that is taken over: others have read packets and not answered. Those get
 * their verdict by the settling alone, and none at all where the others go on reading.
 */
#include "hands.h"
#include "losses.h"
#include "pending.h"

#include <errno.h>
#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "message.h"
#include "transport.h"

#define QUEUE 7
#define IDS 200
#define READERS 3
#define HOLDS_MAX 16
#define DEFAULT NF_STOP
#define VERDICTS 2 /* NF_DROP and NF_ACCEPT */
#define PAYLOAD_MAX 20000

enum place {
    UNBORN,   /* the kernel has not queued it yet */
    LOST,     /* the kernel keeps no such packet */
    READ,     /* a reader has it, and has not dispatched it */
    OTHERS,   /* an earlier reader has it, or one that shares the socket */
    STRANGE,  /* the stranger has it */
    RECEIVED, /* dispatched, and waits for a verdict */
    ANSWERED,
};

struct packet {
    enum place place;
    unsigned int unanswered; /* one that is handed in twice waits for two verdicts */
    unsigned int given;      /* its verdict, as a bit; several, if it was handed in twice */
    bool given_up;           /* that could not leave: its default may take its place */
    bool released;           /* the kernel has executed a verdict */
};

struct reader {
    unsigned int holds[HOLDS_MAX];
    unsigned int first;
    unsigned int count;
    unsigned int hand; /* of hands.h, while it has what is not aside */
    bool report;       /* it has read that a verdict was refused */
    bool aside; /* it was interrupted: what it has not dispatched is set aside, as all can see */
};

static struct model {
    struct lnfq_pending pending;
    struct lnfq_outbox outbox;
    struct lnfq_losses losses;
    uint32_t base; /* the id of place 0 */
    unsigned int next;
    unsigned int inherited; /* packets that others have read before */
    bool exposed;           /* there may be a stranger */
    bool foreign;           /* he has handed in a packet */
    bool adopted;           /* the queue was taken over */
    bool shared;            /* from others, who go on reading */
    bool unsettled;
    bool counted;  /* it is known up to which packet the others have read */
    uint64_t turn; /* of hands.h, since which it can be told which they have */
    struct lnfq_hands hands;
    uint32_t drops;  /* messages that found no room: the kernel's count */
    uint32_t looked; /* when it was looked at last */
    struct packet packets[IDS];
    struct reader readers[READERS];

    bool capable;
    bool report;               /* in the receive buffer */
    unsigned int send_passes;  /* so many sendings do not fail yet */
    unsigned int send_fails;   /* so many sendings fail */
    int send_error;            /* with that */
    size_t limit;              /* of a datagram */
    unsigned int memory_fails; /* so many allocations fail */
    uint64_t sends;
} model;

static const unsigned char content[PAYLOAD_MAX];

/* ---- what fails ---- */

void *
__wrap_malloc(size_t size)
{
    if (model.memory_fails > 0) {
        model.memory_fails -= 1;
        return NULL;
    }
    return __real_malloc(size);
}

void *
__wrap_realloc(void *bytes, size_t size)
{
    if (model.memory_fails > 0) {
        model.memory_fails -= 1;
        return NULL;
    }
    return __real_realloc(bytes, size);
}

bool
__wrap_lnfq_transport_permitted(void)
{
    return model.capable;
}

/* ---- the kernel ---- */

/* The promise. */
static void
release(struct packet *packet, uint32_t verdict)
{
    if (packet->place == UNBORN || packet->place == LOST || packet->released) {
        return;
    }
    require(packet->place == ANSWERED);
    require((packet->given >> verdict) & 1 || (verdict == DEFAULT && packet->given_up));
    packet->released = true;
}

static void
execute(const struct nlmsghdr *message)
{
    const struct nlattr *attributes[ATTRIBUTES];
    const struct nfqnl_msg_verdict_hdr *header;
    uint32_t up_to, from;

    read_attributes((const unsigned char *)message + NLMSG_HDRLEN + sizeof(struct nfgenmsg),
                    message->nlmsg_len - NLMSG_HDRLEN - sizeof(struct nfgenmsg), attributes);
    require(attributes[NFQA_VERDICT_HDR] != NULL);
    header = mnl_attr_get_payload(attributes[NFQA_VERDICT_HDR]);
    up_to = ntohl(header->id) - model.base;
    from = (message->nlmsg_type & 0xff) == NFQNL_MSG_VERDICT_BATCH ? 0 : up_to;
    for (uint32_t at = from; at <= up_to && at < model.next; at++) {
        release(&model.packets[at], ntohl(header->verdict));
    }
}

/* Takes one datagram. */
static ssize_t
kernel_take(unsigned char *bytes, size_t size)
{
    if (model.send_passes > 0) {
        model.send_passes -= 1;
    }
    else if (model.send_fails > 0) {
        model.send_fails -= 1;
        errno = model.send_error;
        return -1;
    }
    if (size > model.limit) {
        errno = EMSGSIZE;
        return -1;
    }
    if (!model.capable) {
        model.report = true;
        return (ssize_t)size;
    }
    for (size_t at = 0; at < size;) {
        const struct nlmsghdr *message = (const struct nlmsghdr *)(void *)(bytes + at);

        require(size - at >= NLMSG_HDRLEN && message->nlmsg_len <= size - at);
        execute(message);
        at += NLMSG_ALIGN(message->nlmsg_len);
    }
    return (ssize_t)size;
}

ssize_t
__wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    _Alignas(struct nlmsghdr) static unsigned char datagram[1 << 18];

    (void)fd;
    (void)flags;
    require(size <= sizeof(datagram));
    memcpy(datagram, bytes, size);
    return kernel_take(datagram, size);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    _Alignas(struct nlmsghdr) static unsigned char datagram[1 << 18];
    size_t size = 0;

    (void)fd;
    (void)flags;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        require(size + message->msg_iov[i].iov_len <= sizeof(datagram));
        memcpy(datagram + size, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        size += message->msg_iov[i].iov_len;
    }
    return kernel_take(datagram, size);
}

/* ---- receiving ---- */

/* Nobody but this one reads, has what it has not dispatched, or can. */
static bool
alone(const struct reader *reader)
{
    for (int i = 0; i < READERS; i++) {
        if (&model.readers[i] != reader && model.readers[i].count > 0) {
            return false;
        }
    }
    return !model.exposed;
}

static void
receive(unsigned int at, bool is_alone)
{
    struct packet *packet = &model.packets[at];
    uint32_t id = model.base + at;
    bool explained =
        !model.foreign && !model.adopted && lnfq_losses_explain(&model.losses, &model.pending, id);

    packet->unanswered += 1;
    if (packet->place != ANSWERED) {
        packet->place = RECEIVED;
    }
    lnfq_pending_receive(&model.pending, id, is_alone);
    if (explained) {
        lnfq_pending_close_gap(&model.pending, model.losses.last_id);
    }
}

/* As a handle does while ids are missing. The count may be older than the id, but not younger. */
static void
look(bool old)
{
    if (model.next > 0) {
        lnfq_losses_note(&model.losses, old ? model.looked : model.drops,
                         model.base + model.next - 1);
        model.looked = model.drops;
    }
}

/* As a handle does when it finds the buffer empty. */
static void
found_empty(struct reader *reader)
{
    bool others = false;

    if (!model.outbox.unconfirmed || model.foreign || reader->report) {
        return;
    }
    for (int i = 0; i < READERS; i++) {
        others |= &model.readers[i] != reader && model.readers[i].count > 0;
        others |= model.readers[i].report;
    }
    if (!others) {
        lnfq_outbox_confirm(&model.outbox);
    }
}

/* Some packets come; bits say which of them are lost. A reader reads again once it has dispatched
 * everything. */
static void
reader_read(struct reader *reader, unsigned int count, unsigned int lost)
{
    if (reader->count > 0 || reader->report) {
        return;
    }
    reader->first = 0;
    for (unsigned int i = 0; i < count && i < HOLDS_MAX && model.next < IDS; i++) {
        if ((lost >> (i % 8)) & 1) {
            model.packets[model.next].place = LOST;
            model.drops += 1;
        }
        else {
            model.packets[model.next].place = READ;
            reader->holds[reader->count++] = model.next;
        }
        model.next += 1;
    }
    if (reader->count > 0) {
        reader->hand = lnfq_hands_begin(&model.hands);
    }
    reader->report = model.report;
    model.report = false;
    found_empty(reader);
}

/* What it has left is set aside, or there is nothing. */
static void
reader_let_go(struct reader *reader)
{
    if (!reader->aside) {
        lnfq_hands_end(&model.hands, reader->hand);
    }
    reader->aside = reader->count > 0;
}

static void
reader_dispatch(struct reader *reader)
{
    if (reader->count > 0) {
        reader->count -= 1;
        receive(reader->holds[reader->first++], alone(reader));
        if (reader->count == 0) {
            reader_let_go(reader);
        }
    }
    else if (reader->report) {
        reader->report = false;
        model.pending.stranded = true;
    }
}

/* His loop begins once the queue is taken over, and known which packets are the others'. */
static void
stranger_read(void)
{
    model.exposed |= !model.unsettled || model.counted;
    if (model.exposed && model.next < IDS) {
        model.packets[model.next++].place = STRANGE;
    }
}

static void
stranger_hand_in(unsigned int at)
{
    if (model.exposed && model.packets[at].place >= STRANGE) {
        model.foreign = true;
        receive(at, false);
    }
}

/* ---- taking over ---- */

/* The queue has had so many packets, which others have read; every other one may be lost. */
static void
take_over(unsigned int count, bool lost, bool counted, bool shared)
{
    lnfq_pending_inherit(&model.pending);
    model.adopted = true;
    model.shared = shared;
    model.unsettled = !shared;
    model.counted = counted;
    for (; model.next < count; model.next++) {
        model.packets[model.next].place = lost && model.next % 2 ? LOST : OTHERS;
    }
    model.inherited = count;
}

static void
others_read(void)
{
    if (model.shared && model.next < IDS) {
        model.packets[model.next++].place = OTHERS;
    }
}

/* The oldest packet that was received here, dispatched or set aside; or the first that came after
 * the others' last, if that is known. IDS if there is neither. */
static unsigned int
find_oldest(void)
{
    unsigned int oldest = model.pending.seen ? model.pending.lowest - model.base : IDS;

    for (int i = 0; i < READERS; i++) {
        const struct reader *reader = &model.readers[i];

        if (reader->aside && reader->holds[reader->first] < oldest) {
            oldest = reader->holds[reader->first];
        }
    }
    return model.counted && oldest > model.inherited ? model.inherited : oldest;
}

/* Gives the others' packets their verdict, as a handle does once nobody has packets in hand that
 * may be older than those that can be seen. */
static void
settle(void)
{
    unsigned int oldest = find_oldest();

    if (!model.unsettled || oldest == IDS) {
        return;
    }
    model.turn = model.turn != 0 ? model.turn : model.hands.turn;
    if (!lnfq_hands_are_done(&model.hands, model.turn)) {
        return;
    }
    for (unsigned int at = 0; at < oldest; at++) {
        struct packet *packet = &model.packets[at];

        require(packet->place == OTHERS || packet->place == LOST);
        packet->place = LOST;
    }
    lnfq_pending_settle(&model.pending, model.base + oldest - 1);
    model.unsettled = false;
}

/* ---- answering ---- */

static void
flush(void)
{
    int error;

    do {
        error = lnfq_outbox_send(&model.outbox, -1, &model.sends);
        if (error == EMSGSIZE) {
            uint16_t queue;
            uint32_t id;

            lnfq_outbox_first(&model.outbox, &queue, &id);
            require(queue == QUEUE && id - model.base < IDS);
            model.packets[id - model.base].given_up = true;
            require(lnfq_outbox_replace(&model.outbox, DEFAULT));
        }
    } while (error == EMSGSIZE);
    require(error != 0 || model.outbox.used == 0);
    model.pending.stranded |= model.outbox.withdrawn > 0;
    model.outbox.withdrawn = 0;
    for (struct lnfq_enclosure *done = lnfq_outbox_take_done(&model.outbox); done != NULL;) {
        struct lnfq_enclosure *next = done->next;

        free(done);
        done = next;
    }
}

/* As a handle does: with a second try once what waits has been sent. */
static int
post(unsigned int at, const struct lnfq_verdict *verdict)
{
    uint32_t id = model.base + at;
    int error = lnfq_pending_post(&model.pending, &model.outbox, QUEUE, id, verdict);

    if (error != 0) {
        flush();
        error = lnfq_pending_post(&model.pending, &model.outbox, QUEUE, id, verdict);
    }
    return error;
}

/* Gives a packet a verdict; its default, or none, if there is no memory. One that is kept waits for
 * another try. */
static void
answer_packet(unsigned int at, unsigned int kind)
{
    struct lnfq_verdict verdict = {.verdict = kind % VERDICTS};
    const struct lnfq_verdict standard = {.verdict = DEFAULT};
    struct packet *packet = &model.packets[at];
    struct packet before = *packet;

    if (kind >= 200) {
        verdict.payload = content;
        verdict.payload_size = kind >= 230 ? PAYLOAD_MAX : kind;
    }
    packet->unanswered -= 1;
    packet->given |= 1U << verdict.verdict;
    packet->place = ANSWERED;
    if (post(at, &verdict) == 0) {
        return;
    }
    packet->given_up = true;
    if (kind % 4 == 0 || post(at, &standard) != 0) {
        before.released = packet->released; /* by an earlier verdict, which was sent meanwhile */
        *packet = before;
    }
}

/* Gives a verdict to the first packet from a place on that waits for one. */
static void
answer(unsigned int from, unsigned int kind)
{
    for (unsigned int i = 0; i < IDS; i++) {
        unsigned int at = (from + i) % IDS;

        if (model.packets[at].unanswered > 0) {
            answer_packet(at, kind);
            return;
        }
    }
}

/* Gives one verdict to all up to a place, as a user may ask for at any time. */
static void
answer_batch(unsigned int up_to, unsigned int kind)
{
    const struct lnfq_verdict verdict = {.verdict = kind % VERDICTS};
    bool singly = !lnfq_pending_batchable(&model.pending, &model.outbox);
    struct packet before[IDS];
    uint64_t count = 0;

    if (!model.pending.seen || up_to >= IDS || model.packets[up_to].place < RECEIVED) {
        return;
    }
    for (unsigned int at = 0; singly && at <= up_to; at++) {
        while (model.packets[at].unanswered > 0) {
            unsigned int waiting = model.packets[at].unanswered;

            answer_packet(at, kind % VERDICTS);
            if (model.packets[at].unanswered == waiting) {
                return;
            }
        }
    }
    memcpy(before, model.packets, sizeof(before));
    for (unsigned int at = 0; !singly && at <= up_to; at++) {
        struct packet *packet = &model.packets[at];

        if (packet->place != LOST && (packet->place != ANSWERED || packet->unanswered > 0)) {
            packet->place = ANSWERED;
            packet->given |= 1U << verdict.verdict;
        }
        count += packet->unanswered;
        packet->unanswered = 0;
    }
    if (singly || count == 0
        || lnfq_pending_post_batch(&model.pending, &model.outbox, QUEUE, count, model.base + up_to,
                                   &verdict)
               != 0) {
        if (!singly) {
            memcpy(model.packets, before, sizeof(before));
        }
    }
}

/* ---- the fuzzer's ---- */

static void
fail(unsigned int argument)
{
    static const int errors[] = {EAGAIN, ENOBUFS, ENOMEM, EPERM};

    switch (argument % 4) {
    case 0:
        model.memory_fails = argument / 4 % 8;
        break;
    case 1:
        model.send_error = errors[argument / 4 % 4];
        model.send_fails = argument / 16 % 8;
        model.send_passes = model.send_fails / 4;
        break;
    case 2:
        model.capable = argument >= 128;
        break;
    default:
        model.limit = argument >= 128 ? SIZE_MAX : 4576;
        break;
    }
}

static void
step(unsigned int operation, unsigned int argument)
{
    struct reader *reader = &model.readers[argument % READERS];

    switch (operation % 8) {
    case 0:
        reader_read(reader, operation >> 3, 0);
        break;
    case 1:
        reader_read(reader, operation >> 3, argument);
        break;
    case 2:
    case 3:
        reader_dispatch(reader);
        break;
    case 4:
        if (operation >= 248) { /* now and then only: there is no way back */
            stranger_read();
        }
        else if (operation >= 240 && model.adopted) {
            settle();
        }
        else if (operation >= 232 && model.adopted) {
            if (reader->count > 0) {
                reader_let_go(reader);
            }
        }
        else if (operation >= 224 && model.shared) {
            others_read();
        }
        else if (operation >= 224) {
            look(argument % 2);
        }
        else {
            answer_batch(argument % IDS, operation >> 3);
        }
        break;
    case 5:
        if (operation >= 128) {
            stranger_hand_in(argument % IDS);
        }
        else {
            fail(argument);
        }
        break;
    case 6:
        flush();
        break;
    default:
        answer(argument, (operation >> 3) * 8 + argument % 8);
        break;
    }
}

/* Ids count from 1; those near the wrap-around are reached by one that is lost, with all before,
 * unless the queue is taken over there. */
static void
begin(uint8_t start)
{
    static const struct model nothing;

    model = nothing;
    require(lnfq_outbox_init(&model.outbox) == 0);
    lnfq_hands_init(&model.hands);
    model.outbox.refusable = true;
    model.capable = true;
    model.limit = SIZE_MAX;
    model.base = 1;
    if (start >= 128) {
        model.base = (uint32_t)-(int32_t)(start - 128);
    }
    if (start & 64) {
        take_over(start % 8, start & 8, start & 16, start & 32);
    }
    else if (start >= 128) {
        lnfq_pending_receive(&model.pending, model.base - 1, true);
        lnfq_pending_answer(&model.pending, model.base - 1);
        lnfq_pending_close_gap(&model.pending, model.base - 1);
    }
}

/* In the end all that was answered has its verdict, if the kernel takes it. */
static void
end(void)
{
    bool refused = model.pending.stranded || model.report || model.outbox.unconfirmed;

    model.memory_fails = 0;
    model.send_fails = 0;
    model.capable = true;
    flush();
    for (unsigned int at = 0; at < model.next; at++) {
        const struct packet *packet = &model.packets[at];

        require(refused || packet->place != ANSWERED || packet->released);
    }
    lnfq_outbox_clear(&model.outbox);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin(size > 0 ? data[0] : 0);
    for (size_t i = 1; i + 1 < size; i += 2) {
        step(data[i], data[i + 1]);
    }
    end();
    return 0;
}
