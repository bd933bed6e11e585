/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: the verdicts that go into an outbox come out on the wire, each once, in their
 * order, with all that they carry and nothing else; a batch verdict stands for exactly the equal
 * ones in a row that said so, and for as many of them as there are. What could not be sent stays,
 * what is too large for the socket is replaced by a plain verdict, what is forgotten goes, and the
 * owner of a payload is let go once, and not before that.
 */
#include "outbox.h"

#include <errno.h>
#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "message.h"
#include "transport.h"

#define RECORDS 100
#define QUEUES 3
#define DATAGRAM_MAX (1 << 18)
#define SEND_RESERVE 32 /* of the send buffer, which the kernel keeps for itself */
#define FILLING 1       /* the size of datagrams that only take room */
#define REPLACEMENT NF_STOP

/* A verdict that was put in. */
struct record {
    uint16_t queue;
    uint32_t id;
    bool may_grow;  /* a batch verdict up to its id would say the same */
    bool asked_for; /* it is a batch verdict */
    bool joins;     /* one message stands for it and for what was put in right before */
    bool waits;     /* in the outbox */
    bool owns;      /* a payload, whose owner has not been let go */
    bool replaced;  /* by a plain verdict */
    bool plain;     /* it has neither payload nor options */
    struct lnfq_verdict verdict;
    struct lnfq_options options;
    unsigned char l2_header[LNFQ_L2_HEADER_MAX];
    unsigned char expectation[LNFQ_EXPECTATION_MAX];
};

struct model {
    struct lnfq_outbox outbox;
    int here;
    int there;
    size_t limit; /* of a datagram */
    uint64_t sends;
    uint64_t datagrams;
    uint32_t id;
    bool broken; /* the next verdict can't join the last one */
    unsigned int count;
    struct record records[RECORDS];
};

/* What payloads are made of. */
static const unsigned char content[LNFQ_PAYLOAD_MAX + RECORDS] = "payload";

/* ---- putting in ---- */

static void
take_options(struct input *input, struct record *record)
{
    struct lnfq_options *options = &record->options;
    uint8_t parts = take_u8(input);

    if (parts & 1) {
        options->vlan.proto = (struct lnfq_optional){true, take_u16(input)};
        options->vlan.tci = (struct lnfq_optional){true, take_u16(input)};
    }
    options->ct_mark.there = parts & 2;
    options->ct_mark.value = take_u32(input);
    options->has_labels = parts & 4;
    take(input, options->labels, sizeof(options->labels));
    if (parts & 8) {
        options->l2_header_size = 1 + take_u8(input) % LNFQ_L2_HEADER_MAX;
        take(input, record->l2_header, options->l2_header_size);
        options->l2_header = record->l2_header;
    }
    if (parts & 16) {
        options->expectation_size = 1 + take_u16(input) % LNFQ_EXPECTATION_MAX;
        take(input, record->expectation, options->expectation_size);
        options->expectation = record->expectation;
    }
    record->verdict.options = lnfq_verdict_build_options(options);
    require(record->verdict.options != NULL);
}

static struct lnfq_optional
optional(bool there, uint32_t value)
{
    return there ? (struct lnfq_optional){true, value} : (struct lnfq_optional){0};
}

/* Verdicts with few different numbers, so that equal ones follow on each other. */
static void
take_verdict(struct input *input, struct record *record, uint8_t parts)
{
    struct lnfq_verdict *verdict = &record->verdict;
    uint8_t numbers = take_u8(input);

    verdict->verdict = numbers % (NF_STOP + 1);
    verdict->mark = optional(parts & 1, numbers >> 6);
    verdict->priority = optional(parts & 2, numbers >> 7);
    if (verdict->verdict == NF_QUEUE) {
        verdict->verdict = lnfq_verdict_queue(numbers, parts & 1);
    }
    require(lnfq_verdict_valid(verdict->verdict));
}

static void
take_payload(struct input *input, struct record *record, unsigned int number)
{
    record->verdict.payload = content + number;
    record->verdict.payload_size = 1 + take_u16(input) % LNFQ_PAYLOAD_MAX;
    record->verdict.owner = record;
    record->owns = true;
}

static bool
same_number(struct lnfq_optional a, struct lnfq_optional b)
{
    return a.there == b.there && (!a.there || a.value == b.value);
}

/* Whether one message may stand for both. */
static bool
one_with(const struct record *a, const struct record *b)
{
    return a->may_grow && b->may_grow && a->plain && b->plain && a->queue == b->queue
           && a->verdict.verdict == b->verdict.verdict
           && same_number(a->verdict.mark, b->verdict.mark)
           && same_number(a->verdict.priority, b->verdict.priority);
}

static struct record *
new_record(struct model *model, struct input *input)
{
    struct record *record = &model->records[model->count++];
    uint8_t queue = take_u8(input);

    *record = (struct record){
        .queue = queue % QUEUES ? queue % QUEUES : 0x1234,
        .id = model->id,
        .waits = true,
    };
    model->id += 1 + (queue >> 6);
    return record;
}

static void
add(struct model *model, struct input *input)
{
    uint8_t parts = take_u8(input);
    struct record *record = new_record(model, input);

    take_verdict(input, record, parts);
    record->may_grow = parts & 4;
    if (parts % 32 >= 24) {
        take_options(input, record);
    }
    if (parts >= 192) {
        take_payload(input, record, model->count);
    }
    record->plain = record->verdict.payload == NULL && record->verdict.options == NULL;
    record->joins = !model->broken && model->count > 1 && one_with(record - 1, record);
    model->broken = false;
    require(lnfq_outbox_add(&model->outbox, record->queue, record->id, &record->verdict,
                            record->may_grow)
            == 0);
    free(record->verdict.options);
}

static void
add_batch(struct model *model, struct input *input)
{
    uint8_t parts = take_u8(input);
    struct record *record = new_record(model, input);

    take_verdict(input, record, parts);
    record->asked_for = true;
    require(lnfq_outbox_add_batch(&model->outbox, record->queue, record->id, &record->verdict)
            == 0);
}

/* ---- what came out ---- */

/* The next one that waits, from a place on; NULL if there is none. */
static struct record *
next_record(struct model *model, struct record *from)
{
    for (struct record *record = from; record < model->records + model->count; record++) {
        if (record->waits) {
            return record;
        }
    }
    return NULL;
}

static void
check_header(const struct nlattr *attribute, uint32_t verdict, uint32_t id)
{
    uint32_t sent = verdict == NF_STOLEN ? NF_DROP : verdict;
    const struct nfqnl_msg_verdict_hdr header = {htonl(sent), htonl(id)};

    require(is_bytes(attribute, &header, sizeof(header)));
}

static void
check_number(const struct nlattr *attribute, struct lnfq_optional number)
{
    require(number.there ? is_u32(attribute, number.value) : attribute == NULL);
}

static void
check_options(const struct nlattr *const attributes[ATTRIBUTES], const struct lnfq_options *options)
{
    bool conntrack = options->ct_mark.there || options->has_labels || options->expectation;
    const struct nlattr *nested[ATTRIBUTES];

    require((attributes[NFQA_VLAN] != NULL) == options->vlan.proto.there);
    if (options->vlan.proto.there) {
        read_attributes(mnl_attr_get_payload(attributes[NFQA_VLAN]),
                        mnl_attr_get_payload_len(attributes[NFQA_VLAN]), nested);
        require(is_u16(nested[NFQA_VLAN_PROTO], (uint16_t)options->vlan.proto.value));
        require(is_u16(nested[NFQA_VLAN_TCI], (uint16_t)options->vlan.tci.value));
    }
    require((attributes[NFQA_CT] != NULL) == conntrack);
    if (conntrack) {
        read_attributes(mnl_attr_get_payload(attributes[NFQA_CT]),
                        mnl_attr_get_payload_len(attributes[NFQA_CT]), nested);
        check_number(nested[CTA_MARK], options->ct_mark);
        require(options->has_labels
                    ? is_bytes(nested[CTA_LABELS], options->labels, sizeof(options->labels))
                    : nested[CTA_LABELS] == NULL);
    }
    require(options->l2_header
                ? is_bytes(attributes[NFQA_L2HDR], options->l2_header, options->l2_header_size)
                : attributes[NFQA_L2HDR] == NULL);
    require(options->expectation
                ? is_bytes(attributes[NFQA_EXP], options->expectation, options->expectation_size)
                : attributes[NFQA_EXP] == NULL);
}

static void
check_payload(const struct nlattr *attribute, const struct record *record)
{
    require(record->verdict.payload
                ? is_bytes(attribute, record->verdict.payload, record->verdict.payload_size)
                : attribute == NULL);
}

/* The last of the records that the message stands for, each of which is done. */
static const struct record *
take_out(struct model *model, const struct nlmsghdr *message)
{
    struct record *record = next_record(model, model->records);

    require(record != NULL);
    record->waits = false;
    for (struct record *next = next_record(model, record + 1); next != NULL && next->joins;
         next = next_record(model, next + 1)) {
        require(message->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH));
        record = next;
        record->waits = false;
    }
    return record;
}

static void
check_message(struct model *model, const struct nlmsghdr *message)
{
    const struct nlattr *attributes[ATTRIBUTES];
    const struct record *before = next_record(model, model->records);
    const struct record *record = take_out(model, message);
    bool batch = record->asked_for || record != before;

    read_message(message, batch ? NFQNL_MSG_VERDICT_BATCH : NFQNL_MSG_VERDICT, record->queue,
                 attributes);
    require(message->nlmsg_flags == NLM_F_REQUEST && message->nlmsg_seq == record->id);
    check_header(attributes[NFQA_VERDICT_HDR], record->verdict.verdict, record->id);
    check_number(attributes[NFQA_MARK], record->verdict.mark);
    check_number(attributes[LNFQ_NFQA_PRIORITY], record->verdict.priority);
    check_options(attributes, &record->options);
    check_payload(attributes[NFQA_PAYLOAD], record);
}

static void
check_datagram(struct model *model, const unsigned char *bytes, size_t size)
{
    const struct nlmsghdr *message = (const void *)bytes;
    int left = (int)size;

    require(size <= model->limit);
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
        check_message(model, message);
    }
    require(left == 0);
    model->datagrams += 1;
}

/* Reads what the kernel would get. */
static void
receive_all(struct model *model)
{
    static _Alignas(struct nlmsghdr) unsigned char bytes[DATAGRAM_MAX];
    ssize_t size;

    while ((size = recv(model->there, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        if (size != FILLING) {
            check_datagram(model, bytes, (size_t)size);
        }
    }
    require(size < 0 && errno == EAGAIN);
}

/* ---- what happens to it ---- */

/* Owners that are let go had their payloads sent or replaced, and nobody else's are left. */
static void
check_done(struct model *model)
{
    struct lnfq_enclosure *done = lnfq_outbox_take_done(&model->outbox);

    while (done != NULL) {
        struct lnfq_enclosure *next = done->next;
        struct record *record = done->owner;

        require(record->owns && (!record->waits || record->replaced));
        record->owns = false;
        free(done);
        done = next;
    }
    for (unsigned int i = 0; i < model->count; i++) {
        require(!model->records[i].owns
                || (model->records[i].waits && !model->records[i].replaced));
    }
    if (next_record(model, model->records) == NULL) {
        model->count = 0;
    }
}

/* What was not sent is thrown away. */
static void
drop_all(struct model *model)
{
    for (unsigned int i = 0; i < model->count; i++) {
        model->records[i].waits = false;
    }
}

/* The first verdict is too large. */
static void
replace_first(struct model *model)
{
    struct record *record = next_record(model, model->records);
    uint16_t queue;
    uint32_t id;
    size_t from = 0;

    require(record != NULL && record->owns);
    lnfq_outbox_first(&model->outbox, &queue, &id);
    require(queue == record->queue && id == record->id);
    require(lnfq_outbox_find(&model->outbox, queue, &from, &id) && id == record->id);
    require(lnfq_outbox_replace(&model->outbox, REPLACEMENT));
    require(!lnfq_outbox_replace(&model->outbox, REPLACEMENT));
    record->verdict = (struct lnfq_verdict){.verdict = REPLACEMENT};
    record->options = (struct lnfq_options){0};
    record->replaced = true;
}

static void
send_all(struct model *model)
{
    int error;

    do {
        error = lnfq_outbox_send(&model->outbox, model->here, &model->sends);
        model->broken = true;
        receive_all(model);
        require(model->sends == model->datagrams);
        if (error == EMSGSIZE) {
            replace_first(model);
        }
    } while (error == EMSGSIZE);
    require(error == 0 || error == EAGAIN);
    require((next_record(model, model->records) == NULL) == (error == 0));
    require((next_record(model, model->records) == NULL) == (model->outbox.used == 0));
    check_done(model);
}

static void
forget(struct model *model, uint16_t queue)
{
    lnfq_outbox_forget(&model->outbox, queue);
    model->broken = true;
    for (unsigned int i = 0; i < model->count; i++) {
        if (model->records[i].queue == queue) {
            model->records[i].waits = false;
        }
    }
    check_done(model);
}

/* Leaves room for a few datagrams only, until what fills it is received. */
static void
fill(const struct model *model, unsigned int room)
{
    char byte = 0;

    while (send(model->here, &byte, FILLING, MSG_DONTWAIT) == FILLING) {
    }
    while (room-- > 0) {
        require(recv(model->there, &byte, FILLING, MSG_DONTWAIT) == FILLING);
    }
}

static void
step(struct model *model, struct input *input)
{
    uint8_t operation = take_u8(input);

    if (model->count == RECORDS || operation % 16 == 0) {
        send_all(model);
    }
    else if (operation % 16 == 1) {
        fill(model, operation >> 6);
        send_all(model);
    }
    else if (operation % 16 == 2) {
        forget(model, operation >> 6 ? operation >> 6 : 0x1234);
    }
    else if (operation % 16 == 3) {
        add_batch(model, input);
    }
    else {
        add(model, input);
    }
}

/* A verdict as the kernel reads it: what it is, one flag and a queue's number. */
static void
check_valid(uint32_t verdict)
{
    bool queue = (verdict & 0xffff & ~(uint32_t)NF_VERDICT_FLAG_QUEUE_BYPASS) == NF_QUEUE;

    require(lnfq_verdict_valid(verdict) == (queue || verdict <= NF_STOP));
}

static void
begin(struct model *model, struct input *input)
{
    static const int buffers[] = {0, 5000, 40000, 100000};
    uint8_t start = take_u8(input);
    int sockets[2], size;
    socklen_t length = sizeof(size);

    check_valid(take_u32(input));
    require(lnfq_outbox_init(&model->outbox) == 0);
    require(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    require(setsockopt(sockets[0], SOL_SOCKET, SO_SNDBUF, &buffers[start % 4], length) == 0);
    require(getsockopt(sockets[0], SOL_SOCKET, SO_SNDBUF, &size, &length) == 0);
    model->here = sockets[0];
    model->there = sockets[1];
    model->limit = (size_t)size - SEND_RESERVE;
    model->id = start >= 128 ? UINT32_MAX - start : 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    struct input input = {data, size};

    memset(&model, 0, sizeof(model));
    begin(&model, &input);
    while (input.size > 0) {
        step(&model, &input);
    }
    if (size % 2 == 0) {
        send_all(&model);
    }
    lnfq_outbox_clear(&model.outbox);
    drop_all(&model);
    check_done(&model);
    (void)close(model.here);
    (void)close(model.there);
    return 0;
}
