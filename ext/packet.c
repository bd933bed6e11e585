/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueData: one queued packet and its verdict.
 *
 * A packet holds its queue, and the slot with its message. While its callback runs that may be the
 * buffer that the message came in; a packet that outlives its callback gets a slot with a copy, and
 * is tracked by the garbage collector from then on. The handle's lock protects what belongs to the
 * verdict; the packet's own critical section protects `slot` and `bytes`, since another thread may
 * read an attribute while the message is copied. The rest doesn't change.
 */
#include "nfq.h"

#include <stdlib.h>

static inline lnfq_packet *
packet_cast(PyObject *self)
{
    return (lnfq_packet *)self;
}

/* ---- lifecycle ---- */

lnfq_packet *
lnfq_packet_new(lnfq_state *state)
{
    lnfq_packet *packet = PyObject_GC_New(lnfq_packet, state->packet_type);

    if (packet != NULL) {
        packet->queue = NULL;
        packet->slot = NULL;
        packet->kept = NULL;
        packet->state = LNFQ_PACKET_EXECUTED;
        packet->verdict.owner = NULL;
        packet->verdict.options = NULL;
        lnfq_reference_share((PyObject *)packet);
    }
    return packet;
}

/* Options, and a payload whose verdict was never executed. */
static void
let_verdict_go(lnfq_packet *packet)
{
    PyObject *payload = packet->verdict.owner;

    free(packet->verdict.options);
    packet->verdict.options = NULL;
    packet->verdict.owner = NULL;
    Py_XDECREF(payload);
}

void
lnfq_packet_blank(lnfq_packet *packet)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    let_verdict_go(packet);
    Py_CLEAR(packet->queue);
    Py_CLEAR(packet->slot);
}

void
lnfq_packet_activate(lnfq_packet *packet, lnfq_queue *queue)
{
    packet->queue = (lnfq_queue *)Py_NewRef((PyObject *)queue);
    packet->state = LNFQ_PACKET_ACTIVE;
    packet->recorded = false;
    packet->in_callback = true;
    packet->active_next = queue->active;
    packet->active_link = &queue->active;
    if (queue->active != NULL) {
        queue->active->active_link = &packet->active_next;
    }
    queue->active = packet;
}

void
lnfq_packet_deactivate(lnfq_packet *packet)
{
    packet->in_callback = false;
    *packet->active_link = packet->active_next;
    if (packet->active_next != NULL) {
        packet->active_next->active_link = packet->active_link;
    }
}

void
lnfq_packet_keep(lnfq_packet *packet, struct lnfq_kept *kept)
{
    *kept = (struct lnfq_kept){
        .id = packet->index.id,
        .number = packet->queue->number,
    };
    lnfq_kept_add(packet->queue, kept);
    packet->kept = kept;
    packet->state = LNFQ_PACKET_KEPT;
}

void
lnfq_packet_cover(lnfq_packet *packet, uint32_t verdict)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    packet->recorded = true;
    packet->verdict.verdict = verdict; /* what was recorded is let go with the packet */
}

/* With the lock: a kept packet learns that a batch verdict has covered it. */
static void
catch_up(lnfq_packet *packet)
{
    if (packet->state == LNFQ_PACKET_KEPT && packet->kept != NULL && packet->kept->covered) {
        lnfq_packet_cover(packet, packet->kept->verdict);
    }
}

/* With the lock: it has had its verdict, or nobody can give it one any more. */
static void
packet_leave(lnfq_packet *packet)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    if (packet->kept != NULL) {
        lnfq_kept_remove(packet->queue, packet->kept);
    }
}

int
lnfq_packet_execute(lnfq_packet *packet)
{
    lnfq_queue *queue = packet->queue;
    int error = lnfq_handle_post(queue->handle, queue, packet->index.id, &packet->verdict);

    if (error == 0) {
        packet->verdict.owner = NULL; /* the outbox's now */
        packet_leave(packet);
    }
    return error;
}

void
lnfq_packet_default(lnfq_packet *packet)
{
    lnfq_queue *queue = packet->queue;

    packet->recorded = true;
    packet->verdict.verdict = atomic_load(&queue->default_verdict); /* the rest goes with it */
    (void)lnfq_handle_post_default(queue->handle, queue, packet->index.id);
    packet_leave(packet);
}

int
lnfq_packet_copy(lnfq_packet *packet)
{
    size_t size = packet->index.size;
    lnfq_slot *slot, *former;

    PyObject_GC_Track(packet);
    slot = lnfq_slot_new(packet->queue->handle->state, size);
    if (slot == NULL) {
        lnfq_slot_track(packet->slot); /* whose other owner lives on */
        return -1;
    }
    memcpy(slot->bytes, packet->bytes, size);
    Py_BEGIN_CRITICAL_SECTION(packet);
    former = packet->slot;
    packet->slot = slot;
    packet->bytes = slot->bytes;
    Py_END_CRITICAL_SECTION();
    Py_DECREF(former);
    return 0;
}

/*
 * Nobody can give it a verdict any more. Never waits: if the lock is taken, whoever releases it
 * pays the debt.
 */
static void
packet_forget(lnfq_packet *packet)
{
    lnfq_handle *handle = packet->queue->handle;
    struct lnfq_kept *debt = packet->kept;

    packet->kept = NULL;
    debt->next_debt = atomic_load(&handle->debts);
    while (!atomic_compare_exchange_weak(&handle->debts, &debt->next_debt, debt)) {
    }
    if (pthread_mutex_trylock(&handle->lock) == 0) {
        lnfq_handle_unlock(handle);
    }
}

static int
packet_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(packet_cast(self)->queue);
    return lnfq_slot_visit(packet_cast(self)->slot, visit, arg);
}

static void
packet_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    lnfq_packet *packet = packet_cast(self);

    PyObject_GC_UnTrack(self);
    if (packet->state == LNFQ_PACKET_KEPT && packet->kept != NULL
        && !lnfq_handle_forked(packet->queue->handle)) {
        packet_forget(packet);
    }
    free(packet->kept);
    let_verdict_go(packet);
    Py_XDECREF(packet->slot);
    Py_XDECREF(packet->queue);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- verdicts ---- */

static PyObject *
raise_given(const lnfq_packet *packet, const char *call)
{
    PyErr_Format(packet->queue->handle->state->verdict_error,
                 "%s: packet %u of queue %u has had its verdict, %u", call, packet->index.id,
                 packet->queue->number, packet->verdict.verdict);
    return NULL;
}

static PyObject *
raise_destroyed(const lnfq_packet *packet, const char *call)
{
    PyErr_Format(packet->queue->handle->state->closed_error,
                 "%s: queue %u is destroyed, and packet %u has had its default verdict", call,
                 packet->queue->number, packet->index.id);
    return NULL;
}

/* Records the verdict inside the callback, executes it after; None, or NULL with an exception.
 * Takes the owner of the payload, and the options. */
static PyObject *
packet_give(lnfq_packet *packet, const struct lnfq_verdict *verdict, const char *call)
{
    lnfq_handle *handle = packet->queue->handle;
    PyObject *payload = verdict->owner; /* whichever is surplus */
    struct lnfq_attributes *options = verdict->options;
    enum lnfq_packet_state state;
    bool bound, in_callback, held;
    int error = 0;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        free(options);
        Py_XDECREF(payload);
        return NULL;
    }
    lnfq_handle_lock(handle);
    catch_up(packet);
    state = packet->state;
    bound = packet->queue->bound;
    in_callback = packet->in_callback;
    held = handle->held; /* and so this one is too */
    if (bound && state != LNFQ_PACKET_EXECUTED) {
        payload = packet->verdict.owner;
        options = packet->verdict.options;
        packet->verdict = *verdict;
        packet->recorded = true;
        error = state == LNFQ_PACKET_KEPT ? lnfq_packet_execute(packet) : 0;
    }
    lnfq_handle_unlock(handle);
    free(options);
    Py_XDECREF(payload);
    if (in_callback && !bound) {
        Py_RETURN_NONE; /* the callback destroyed its own queue, and so settled this packet */
    }
    if (state == LNFQ_PACKET_EXECUTED) {
        return raise_given(packet, call);
    }
    if (!bound) {
        return raise_destroyed(packet, call);
    }
    if (error != 0) {
        return PyErr_NoMemory();
    }
    if (state == LNFQ_PACKET_KEPT && !held && lnfq_handle_send_or_hold(handle, call) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    set_verdict_doc,
    "set_verdict($self, /, verdict, mark=None, *, payload=None, priority=None, vlan=None,\n"
    "            ct_mark=None, ct_labels=None, l2_header=None)\n"
    "--\n"
    "\n"
    "Give the packet its verdict, and change what is named; None leaves it as it is.\n"
    "\n"
    "verdict is a Verdict or what NF_QUEUE_NR returns. NF_STOLEN, which kernels refuse\n"
    "from user space, is executed as NF_DROP; plain NF_QUEUE passes the packet to\n"
    "queue 0. mark, priority and ct_mark are the packet's new mark and priority and\n"
    "its connection's new mark, 0 to 2**32-1 in host byte order. payload is its new\n"
    "content from the network header on, a bytes-like object of 1 to 65531 bytes;\n"
    "bytes are sent without a copy, anything else is copied at the call. Checksums are\n"
    "the caller's: see update_checksums. Where a kernel allows no new payload it drops\n"
    "the packet and reports nothing: Linux 7.2 does on bridges, in the network\n"
    "namespaces of user namespaces, and if the IP header names another length, or has\n"
    "other options or extensions than before. All kernels do if a packet with\n"
    "NFQA_SKB_GSO gets no longer than one of its segments.\n"
    "\n"
    "vlan is a tuple (proto, tci) of ints from 0 to 65535, and l2_header a bytes-like\n"
    "object as long as the packet's own: kernels heed both on packets of AF_BRIDGE\n"
    "only. ct_labels is a bytes-like object of 1 to 16 bytes, the 128 bits of the\n"
    "connection's labels (bit n is bit n % 8 of byte n / 8 on little-endian machines);\n"
    "those that are not there are cleared. Kernels ignore ct_mark and ct_labels where\n"
    "the packet has no connection, and both, if labels are named, where no rule used\n"
    "any when the connection began.\n"
    "\n"
    "Inside the packet's callback the verdict is recorded and executed once the\n"
    "callback exits; the last one stands. A packet that was kept gets its verdict at\n"
    "once (with autoflush; else at flush or the next dispatch), and only once, from\n"
    "any thread. Never waits.\n"
    "\n"
    "Raises ValueError for a value out of range, for a payload on a packet that is\n"
    "truncated, or for one that the kernel is known to lose (update_checksums says when);\n"
    "ClosedError if the queue is destroyed; VerdictError if the packet has had its\n"
    "verdict; TypeError; OSError if it can't be sent; RuntimeError after fork. A refusal of\n"
    "the kernel comes later, is counted in HandleStats.verdict_errors and told to\n"
    "on_verdict_error. Kernel: NFQA_VERDICT_HDR, NFQA_MARK, NFQA_PAYLOAD, NFQA_PRIORITY,\n"
    "NFQA_VLAN, NFQA_L2HDR, NFQA_CT; nfq_set_verdict2(3).");

static PyObject *
packet_set_verdict(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"verdict", "mark",      "payload",   "priority", "vlan",
                                        "ct_mark", "ct_labels", "l2_header", NULL};
    PyObject *values[4 + LNFQ_OPTION_ARGUMENTS] = {NULL};
    struct lnfq_verdict verdict = {0};
    lnfq_packet *packet = packet_cast(self);

    if (lnfq_parse_arguments("set_verdict", names, 1, 2, args, nargs, kwnames, values) < 0
        || lnfq_parse_verdict(values[0], "set_verdict(): verdict", &verdict.verdict) < 0
        || lnfq_parse_optional(values[1], "set_verdict(): mark", &verdict.mark) < 0
        || lnfq_parse_optional(values[3], "set_verdict(): priority", &verdict.priority) < 0
        || lnfq_parse_options(packet, &values[4], &verdict) < 0) {
        return NULL;
    }
    if (lnfq_given(values[2])
        && lnfq_parse_payload(packet, values[2], "set_verdict(): payload", &verdict) < 0) {
        free(verdict.options);
        return NULL;
    }
    return packet_give(packet, &verdict, "set_verdict()");
}

PyDoc_STRVAR(accept_doc,
             "accept($self, /, mark=None, payload=None)\n"
             "--\n"
             "\n"
             "The same as set_verdict(NF_ACCEPT, mark, payload=payload): the packet goes on.");

static PyObject *
packet_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mark", "payload", NULL};
    PyObject *values[2] = {NULL, NULL};
    struct lnfq_verdict verdict = {.verdict = NF_ACCEPT};
    lnfq_packet *packet = packet_cast(self);

    if (lnfq_parse_arguments("accept", names, 0, 2, args, nargs, kwnames, values) < 0
        || lnfq_parse_optional(values[0], "accept(): mark", &verdict.mark) < 0
        || (lnfq_given(values[1])
            && lnfq_parse_payload(packet, values[1], "accept(): payload", &verdict) < 0)) {
        return NULL;
    }
    return packet_give(packet, &verdict, "accept()");
}

PyDoc_STRVAR(drop_doc, "drop($self, /)\n"
                       "--\n"
                       "\n"
                       "The same as set_verdict(NF_DROP): the packet is thrown away.");

static PyObject *
packet_drop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct lnfq_verdict verdict = {.verdict = NF_DROP};

    return packet_give(packet_cast(self), &verdict, "drop()");
}

PyDoc_STRVAR(repeat_doc,
             "repeat($self, /, mark=None)\n"
             "--\n"
             "\n"
             "The same as set_verdict(NF_REPEAT, mark): the chain that queued it begins anew.\n"
             "\n"
             "Give it a mark whose packets the rule skips, or it comes back for ever.");

static PyObject *
packet_repeat(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mark", NULL};
    PyObject *mark = NULL;
    struct lnfq_verdict verdict = {.verdict = NF_REPEAT};

    if (lnfq_parse_arguments("repeat", names, 0, 1, args, nargs, kwnames, &mark) < 0
        || lnfq_parse_optional(mark, "repeat(): mark", &verdict.mark) < 0) {
        return NULL;
    }
    return packet_give(packet_cast(self), &verdict, "repeat()");
}

PyDoc_STRVAR(requeue_doc,
             "requeue($self, /, number, bypass=False)\n"
             "--\n"
             "\n"
             "The same as set_verdict(NF_QUEUE_NR(number, bypass)): the packet goes on to queue\n"
             "`number`, 0 to 65535.\n"
             "\n"
             "With bypass it is let through when nobody listens there; without, it is\n"
             "dropped.");

static PyObject *
packet_requeue(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct lnfq_verdict verdict = {0};

    if (lnfq_parse_queue_nr("requeue", args, nargs, kwnames, &verdict.verdict) < 0) {
        return NULL;
    }
    return packet_give(packet_cast(self), &verdict, "requeue()");
}

static PyObject *
packet_get_verdict(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_packet *packet = packet_cast(self);
    lnfq_handle *handle = packet->queue->handle;
    bool recorded, bound;
    uint32_t verdict;

    if (lnfq_handle_check_forked(handle, "verdict") < 0) {
        return NULL;
    }
    lnfq_handle_lock(handle);
    catch_up(packet);
    recorded = packet->recorded;
    verdict = packet->verdict.verdict;
    bound = packet->queue->bound;
    lnfq_handle_unlock(handle);
    if (!recorded && bound) {
        Py_RETURN_NONE;
    }
    if (!recorded) {
        verdict = atomic_load(&packet->queue->default_verdict);
    }
    return lnfq_enum_member(handle->state, LNFQ_ENUM_VERDICT, verdict);
}

/* ---- attributes ---- */

/* What a getter reads: its closure. */
struct attribute {
    lnfq_reader read;
    unsigned int number; /* the kernel's, for readers of more than one */
};

static PyObject *
packet_get(PyObject *self, void *closure)
{
    const struct attribute *attribute = closure;

    return lnfq_packet_read(packet_cast(self), attribute->read, attribute->number);
}

static PyObject *
packet_get_id(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(packet_cast(self)->index.id);
}

static PyObject *
packet_get_queue(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)packet_cast(self)->queue);
}

static PyObject *
packet_get_family(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(packet_cast(self)->index.family);
}

static PyObject *
packet_get_hook(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_packet *packet = packet_cast(self);

    return lnfq_enum_member(packet->queue->handle->state, LNFQ_ENUM_HOOK, packet->index.hook);
}

static PyObject *
packet_get_hw_protocol(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(packet_cast(self)->index.hw_protocol);
}

/* ---- the names of devices ---- */

static PyObject *
packet_name(PyObject *self, unsigned int attribute, const char *call)
{
    lnfq_packet *packet = packet_cast(self);

    return lnfq_name_find(packet->queue->handle, lnfq_packet_number(packet, attribute), call);
}

#define NAME_DOC(name, what, attribute)                                                            \
    PyDoc_STRVAR(                                                                                  \
        name##_doc,                                                                                \
        #name "($self, /)\n"                                                                       \
              "--\n"                                                                               \
              "\n"                                                                                 \
              "The name of the " what " as it is now, a str; None if unknown or gone.\n"           \
              "\n"                                                                                 \
              "It is looked up in the namespace of the handle's socket; an answer is used for a\n" \
              "millisecond. Never waits. Raises ClosedError for a closed handle, OSError if the\n" \
              "kernel refuses, RuntimeError after fork. Kernel: " attribute ",\n"                  \
              "SIOCGIFNAME (netdevice(7)).")

NAME_DOC(indev_name, "device that the packet was received by", "NFQA_IFINDEX_INDEV");

static PyObject *
packet_indev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_INDEV, "indev_name()");
}

NAME_DOC(physindev_name, "bridge port that the packet was received by", "NFQA_IFINDEX_PHYSINDEV");

static PyObject *
packet_physindev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_PHYSINDEV, "physindev_name()");
}

NAME_DOC(outdev_name, "device that the packet will be sent by", "NFQA_IFINDEX_OUTDEV");

static PyObject *
packet_outdev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_OUTDEV, "outdev_name()");
}

NAME_DOC(physoutdev_name, "bridge port that the packet will be sent by", "NFQA_IFINDEX_PHYSOUTDEV");

static PyObject *
packet_physoutdev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_PHYSOUTDEV, "physoutdev_name()");
}

/* ---- the seed's getters ---- */

PyDoc_STRVAR(packet_hw_doc,
             "get_packet_hw($self, /)\n"
             "--\n"
             "\n"
             "The sender's hardware address as bytes, 6 of them for Ethernet; b\"\" if unknown.\n"
             "\n"
             "Kernels know it only on the way in. Kernel: NFQA_HWADDR; nfq_get_packet_hw(3).");

static PyObject *
packet_get_packet_hw(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_hw_addr, NFQA_HWADDR);
}

PyDoc_STRVAR(nfmark_doc,
             "get_nfmark($self, /)\n"
             "--\n"
             "\n"
             "The netfilter mark as an int in host byte order; 0 if the packet has none.\n"
             "\n"
             "Kernel: NFQA_MARK; nfq_get_nfmark(3).");

static PyObject *
packet_get_nfmark(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32, NFQA_MARK);
}

PyDoc_STRVAR(timestamp_doc,
             "get_timestamp($self, /)\n"
             "--\n"
             "\n"
             "When the packet arrived, as a tuple (seconds, microseconds) of ints since the\n"
             "epoch, or None.\n"
             "\n"
             "Kernels take the time only while some socket on the host asks for it\n"
             "(SO_TIMESTAMP). Kernel: NFQA_TIMESTAMP; nfq_get_timestamp(3).");

static PyObject *
packet_get_timestamp(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_time_pair, NFQA_TIMESTAMP);
}

PyDoc_STRVAR(indev_doc, "get_indev($self, /)\n"
                        "--\n"
                        "\n"
                        "The index of the device that the packet was received by; 0 if unknown.\n"
                        "\n"
                        "Kernel: NFQA_IFINDEX_INDEV; nfq_get_indev(3).");

static PyObject *
packet_get_indev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32, NFQA_IFINDEX_INDEV);
}

PyDoc_STRVAR(physindev_doc,
             "get_physindev($self, /)\n"
             "--\n"
             "\n"
             "The index of the bridge port that the packet was received by; 0 if unknown.\n"
             "\n"
             "Kernel: NFQA_IFINDEX_PHYSINDEV; nfq_get_physindev(3).");

static PyObject *
packet_get_physindev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32, NFQA_IFINDEX_PHYSINDEV);
}

PyDoc_STRVAR(outdev_doc, "get_outdev($self, /)\n"
                         "--\n"
                         "\n"
                         "The index of the device that the packet will be sent by; 0 if unknown.\n"
                         "\n"
                         "Kernel: NFQA_IFINDEX_OUTDEV; nfq_get_outdev(3).");

static PyObject *
packet_get_outdev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32, NFQA_IFINDEX_OUTDEV);
}

PyDoc_STRVAR(physoutdev_doc,
             "get_physoutdev($self, /)\n"
             "--\n"
             "\n"
             "The index of the bridge port that the packet will be sent by; 0 if unknown.\n"
             "\n"
             "Kernel: NFQA_IFINDEX_PHYSOUTDEV; nfq_get_physoutdev(3).");

static PyObject *
packet_get_physoutdev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32, NFQA_IFINDEX_PHYSOUTDEV);
}

PyDoc_STRVAR(payload_doc,
             "get_payload($self, /)\n"
             "--\n"
             "\n"
             "A copy of the packet from its network header on, as bytes; b\"\" if there is none.\n"
             "\n"
             "The copy mode says how much of it there is. The payload attribute is the same\n"
             "without a copy. Kernel: NFQA_PAYLOAD; nfq_get_payload(3).");

static PyObject *
packet_get_payload(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_bytes, NFQA_PAYLOAD);
}

PyDoc_STRVAR(uid_doc,
             "get_uid($self, /)\n"
             "--\n"
             "\n"
             "The id of the user whose socket sent the packet, as the initial user namespace\n"
             "counts; None if unknown.\n"
             "\n"
             "Needs NFQA_CFG_F_UID_GID. Kernel: NFQA_UID; nfq_get_uid(3).");

static PyObject *
packet_get_uid(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32_or_none, NFQA_UID);
}

PyDoc_STRVAR(gid_doc,
             "get_gid($self, /)\n"
             "--\n"
             "\n"
             "The id of the group whose socket sent the packet, as the initial user namespace\n"
             "counts; None if unknown.\n"
             "\n"
             "Needs NFQA_CFG_F_UID_GID. Kernel: NFQA_GID; nfq_get_gid(3).");

static PyObject *
packet_get_gid(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_packet_read(packet_cast(self), lnfq_read_u32_or_none, NFQA_GID);
}

/* ---- type ---- */

static PyObject *
packet_repr(PyObject *self)
{
    lnfq_packet *packet = packet_cast(self);

    return PyUnicode_FromFormat("<%s %u of queue %u, %u bytes>", Py_TYPE(self)->tp_name,
                                packet->index.id, packet->queue->number,
                                lnfq_packet_original_length(packet));
}

static PyMethodDef packet_methods[] = {
    {"set_verdict", (PyCFunction)(void (*)(void))packet_set_verdict, METH_FASTCALL | METH_KEYWORDS,
     set_verdict_doc},
    {"accept", (PyCFunction)(void (*)(void))packet_accept, METH_FASTCALL | METH_KEYWORDS,
     accept_doc},
    {"drop", packet_drop, METH_NOARGS, drop_doc},
    {"repeat", (PyCFunction)(void (*)(void))packet_repeat, METH_FASTCALL | METH_KEYWORDS,
     repeat_doc},
    {"requeue", (PyCFunction)(void (*)(void))packet_requeue, METH_FASTCALL | METH_KEYWORDS,
     requeue_doc},
    {"get_packet_hw", packet_get_packet_hw, METH_NOARGS, packet_hw_doc},
    {"get_nfmark", packet_get_nfmark, METH_NOARGS, nfmark_doc},
    {"get_timestamp", packet_get_timestamp, METH_NOARGS, timestamp_doc},
    {"get_indev", packet_get_indev, METH_NOARGS, indev_doc},
    {"get_physindev", packet_get_physindev, METH_NOARGS, physindev_doc},
    {"get_outdev", packet_get_outdev, METH_NOARGS, outdev_doc},
    {"get_physoutdev", packet_get_physoutdev, METH_NOARGS, physoutdev_doc},
    {"get_payload", packet_get_payload, METH_NOARGS, payload_doc},
    {"get_uid", packet_get_uid, METH_NOARGS, uid_doc},
    {"get_gid", packet_get_gid, METH_NOARGS, gid_doc},
    {"indev_name", packet_indev_name, METH_NOARGS, indev_name_doc},
    {"physindev_name", packet_physindev_name, METH_NOARGS, physindev_name_doc},
    {"outdev_name", packet_outdev_name, METH_NOARGS, outdev_name_doc},
    {"physoutdev_name", packet_physoutdev_name, METH_NOARGS, physoutdev_name_doc},
    {NULL, NULL, 0, NULL},
};

/* A closure, which can't be const. */
#define ATTRIBUTE(read, number) &(struct attribute){read, number}

static PyGetSetDef packet_attributes[] = {
    {"id", packet_get_id, NULL,
     "The packet's number in its queue, an int of 32 bits that counts from 1 and wraps.\n\n"
     "Kernel: NFQA_PACKET_HDR.",
     NULL},
    {"queue", packet_get_queue, NULL, "The NetfilterQueueQueueHandle that has delivered it.", NULL},
    {"family", packet_get_family, NULL,
     "The protocol family of the hook: AF_INET, AF_INET6 or AF_BRIDGE, an int.\n\n"
     "Kernel: nfgen_family.",
     NULL},
    {"hook", packet_get_hook, NULL,
     "The Hook that queued it. One that only newer kernels have is named by its digits.\n"
     "\n"
     "Kernel: NFQA_PACKET_HDR.",
     NULL},
    {"hw_protocol", packet_get_hw_protocol, NULL,
     "The EtherType, an int in host byte order (0x0800: IPv4, 0x86dd: IPv6).\n\n"
     "Kernel: NFQA_PACKET_HDR.",
     NULL},
    {"hw_addr", packet_get, NULL,
     "The sender's hardware address as bytes, 6 of them for Ethernet; b\"\" if unknown.\n\n"
     "Kernels know it only on the way in. Kernel: NFQA_HWADDR.",
     ATTRIBUTE(lnfq_read_hw_addr, NFQA_HWADDR)},
    {"mark", packet_get, NULL,
     "The netfilter mark, an int of 32 bits in host byte order; 0 if it has none.\n\n"
     "Kernel: NFQA_MARK.",
     ATTRIBUTE(lnfq_read_u32, NFQA_MARK)},
    {"timestamp", packet_get, NULL,
     "When it arrived, a float of seconds since the epoch, to the microsecond; or None.\n\n"
     "Kernels take the time only while some socket on the host asks for it (SO_TIMESTAMP).\n"
     "Kernel: NFQA_TIMESTAMP.",
     ATTRIBUTE(lnfq_read_time, NFQA_TIMESTAMP)},
    {"indev", packet_get, NULL,
     "The index of the device that it was received by, an int; 0 if unknown.\n\n"
     "Kernel: NFQA_IFINDEX_INDEV.",
     ATTRIBUTE(lnfq_read_u32, NFQA_IFINDEX_INDEV)},
    {"physindev", packet_get, NULL,
     "The index of the bridge port that it was received by, an int; 0 if unknown.\n\n"
     "Kernel: NFQA_IFINDEX_PHYSINDEV.",
     ATTRIBUTE(lnfq_read_u32, NFQA_IFINDEX_PHYSINDEV)},
    {"outdev", packet_get, NULL,
     "The index of the device that it will be sent by, an int; 0 if unknown.\n\n"
     "Kernel: NFQA_IFINDEX_OUTDEV.",
     ATTRIBUTE(lnfq_read_u32, NFQA_IFINDEX_OUTDEV)},
    {"physoutdev", packet_get, NULL,
     "The index of the bridge port that it will be sent by, an int; 0 if unknown.\n\n"
     "Kernel: NFQA_IFINDEX_PHYSOUTDEV.",
     ATTRIBUTE(lnfq_read_u32, NFQA_IFINDEX_PHYSOUTDEV)},
    {"payload", packet_get, NULL,
     "The packet from its network header on, a read-only memoryview without a copy.\n\n"
     "It holds the bytes, not the packet: a packet of which only views are left gets its\n"
     "queue's default verdict. Inside a callback that handle_packet() calls it looks into the\n"
     "caller's buffer. Kernel: NFQA_PAYLOAD.",
     ATTRIBUTE(lnfq_read_view, NFQA_PAYLOAD)},
    {"uid", packet_get, NULL,
     "The id of the user whose socket sent it, as the initial user namespace counts, an int; or\n"
     "None.\n\n"
     "Needs NFQA_CFG_F_UID_GID. Kernel: NFQA_UID.",
     ATTRIBUTE(lnfq_read_u32_or_none, NFQA_UID)},
    {"gid", packet_get, NULL,
     "The id of the group whose socket sent it, as the initial user namespace counts, an int;\n"
     "or None.\n\n"
     "Needs NFQA_CFG_F_UID_GID. Kernel: NFQA_GID.",
     ATTRIBUTE(lnfq_read_u32_or_none, NFQA_GID)},
    {"skb_info", packet_get, NULL,
     "An SkbInfo: checksum not ready, segmentation offload, checksum not verified.\n\n"
     "Kernel: NFQA_SKB_INFO.",
     ATTRIBUTE(lnfq_read_skb_info, NFQA_SKB_INFO)},
    {"original_length", packet_get, NULL,
     "The packet's length in bytes before the copy range or a short buffer cut it.\n\n"
     "Kernel: NFQA_CAP_LEN.",
     ATTRIBUTE(lnfq_read_original_length, NFQA_CAP_LEN)},
    {"truncated", packet_get, NULL,
     "Whether the payload is shorter than the packet, or the message was cut. A bool.\n\n"
     "Kernel: NFQA_CAP_LEN.",
     ATTRIBUTE(lnfq_read_truncated, NFQA_CAP_LEN)},
    {"priority", packet_get, NULL,
     "The packet's priority, an int, 0 if it has none.\n\n"
     "SO_PRIORITY or the CLASSIFY target set it. Kernel: NFQA_PRIORITY, Linux 5.18.",
     ATTRIBUTE(lnfq_read_u32, LNFQ_NFQA_PRIORITY)},
    {"cgroup_classid", packet_get, NULL,
     "The net_cls class of the sending socket's control group, an int, 0 if it has none.\n\n"
     "Kernel: NFQA_CGROUP_CLASSID, Linux 6.4.",
     ATTRIBUTE(lnfq_read_u32, LNFQ_NFQA_CGROUP_CLASSID)},
    {"secctx", packet_get, NULL,
     "The packet's security context as bytes, or None.\n\n"
     "Needs NFQA_CFG_F_SECCTX, and a rule that sets the packet's secmark. Kernel:\n"
     "NFQA_SECCTX; nfq_get_secctx(3).",
     ATTRIBUTE(lnfq_read_secctx, NFQA_SECCTX)},
    {"vlan", packet_get, NULL,
     "A Vlan (proto, tci): the VLAN tag of a packet on a bridge, or None.\n\n"
     "Kernel: NFQA_VLAN.",
     ATTRIBUTE(lnfq_read_vlan, NFQA_VLAN)},
    {"l2_header", packet_get, NULL,
     "The link-layer header of a packet on a bridge as bytes, 14 of them for Ethernet, or\n"
     "None.\n\n"
     "Kernel: NFQA_L2HDR.",
     ATTRIBUTE(lnfq_read_bytes_or_none, NFQA_L2HDR)},
    {"conntrack", packet_get, NULL,
     "A Conntrack, the packet's entry in the connection tracking table, or None.\n\n"
     "Needs NFQA_CFG_F_CONNTRACK. Kernel: NFQA_CT.",
     ATTRIBUTE(lnfq_read_conntrack, NFQA_CT)},
    {"ct_info", packet_get, NULL,
     "How the packet relates to its connection, an int (enum ip_conntrack_info: 0\n"
     "established, 1 related, 2 new, 3 more in the reply direction), or None.\n\n"
     "Needs NFQA_CFG_F_CONNTRACK. Kernel: NFQA_CT_INFO.",
     ATTRIBUTE(lnfq_read_u32_or_none, NFQA_CT_INFO)},
    {"verdict", packet_get_verdict, NULL,
     "The Verdict that was set or executed, or None; an int for NF_QUEUE_NR(number).\n\n"
     "That the kernel refused it does not show here: see on_verdict_error.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(packet_doc,
             "One queued packet awaiting its verdict; what a queue's callback gets.\n"
             "\n"
             "It may be kept, and stays valid for as long as it is referenced. If nothing\n"
             "references it any more and it has no verdict, it gets its queue's default.\n"
             "May be used from any thread; nothing here waits. See nfq_get_msg_packet_hdr(3).");

static PyType_Slot packet_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)packet_doc},
    {Py_tp_methods, packet_methods},
    {Py_tp_getset, packet_attributes},
    {Py_tp_repr, packet_repr},
    {Py_tp_traverse, packet_traverse},
    {Py_tp_dealloc, packet_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_packet_spec = {
    .name = "libnetfilterqueue.NetfilterQueueData",
    .basicsize = sizeof(lnfq_packet),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = packet_slots,
};
