/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whoever reads the descriptor, in whatever order what they have read is handed
 * in and answered, a batch verdict is never called safe while an id that it covers has no verdict
 * or is in somebody's hands.
 *
 * The bytes play the kernel, three readers that dispatch what they have read in its order, as
 * calls of `process` do, and a stranger who has the descriptor, who hands in what he likes, when he
 * likes, as often as he likes.
 */
#include "pending.h"

#include "fuzz.h"

#define IDS 200
#define READERS 3
#define HOLDS_MAX 16

enum place {
    UNBORN,   /* the kernel has not queued it yet */
    LOST,     /* the kernel keeps no such packet */
    READ,     /* a reader has it, and has not dispatched it */
    STRANGE,  /* the stranger has it */
    RECEIVED, /* dispatched, and waits for a verdict */
    ANSWERED,
};

struct reader {
    unsigned int holds[HOLDS_MAX];
    unsigned int first;
    unsigned int count;
};

struct model {
    struct lnfq_pending pending;
    uint32_t base; /* the id of place 0 */
    unsigned int next;
    bool exposed; /* there may be a stranger */
    enum place places[IDS];
    unsigned int unanswered[IDS]; /* a packet that is handed in twice waits for two verdicts */
    struct reader readers[READERS];
};

static void
receive(struct model *model, unsigned int at, bool alone)
{
    model->unanswered[at] += 1;
    if (model->places[at] != ANSWERED) {
        model->places[at] = RECEIVED;
    }
    lnfq_pending_receive(&model->pending, model->base + at, alone);
}

/* Nobody but this one reads, has what it has not dispatched, or can. */
static bool
alone(const struct model *model, const struct reader *reader)
{
    for (int i = 0; i < READERS; i++) {
        if (&model->readers[i] != reader && model->readers[i].count > 0) {
            return false;
        }
    }
    return !model->exposed;
}

/* Some packets come; bits say which of them are lost. A reader reads again once it has dispatched
 * everything. */
static void
reader_read(struct model *model, struct reader *reader, unsigned int count, unsigned int lost)
{
    if (reader->count > 0) {
        return;
    }
    reader->first = 0;
    for (unsigned int i = 0; i < count && i < HOLDS_MAX && model->next < IDS; i++) {
        if ((lost >> (i % 8)) & 1) {
            model->places[model->next] = LOST;
        }
        else {
            model->places[model->next] = READ;
            reader->holds[reader->count++] = model->next;
        }
        model->next += 1;
    }
}

static void
reader_dispatch(struct model *model, struct reader *reader)
{
    if (reader->count > 0) {
        reader->count -= 1;
        receive(model, reader->holds[reader->first++], alone(model, reader));
    }
}

static void
stranger_read(struct model *model)
{
    model->exposed = true;
    if (model->next < IDS) {
        model->places[model->next++] = STRANGE;
    }
}

static void
stranger_hand_in(struct model *model, unsigned int at)
{
    if (model->exposed && model->places[at] >= STRANGE) {
        receive(model, at, false);
    }
}

/* The promise. */
static void
check_batch(const struct model *model, unsigned int up_to)
{
    for (unsigned int at = 0; at <= up_to; at++) {
        require(model->places[at] == LOST
                || (model->places[at] == ANSWERED && model->unanswered[at] == 0));
    }
}

/* Gives a verdict to the first packet from a place on that waits for one. */
static void
answer(struct model *model, unsigned int from)
{
    for (unsigned int i = 0; i < IDS; i++) {
        unsigned int at = (from + i) % IDS;

        if (model->unanswered[at] > 0) {
            model->unanswered[at] -= 1;
            model->places[at] = ANSWERED;
            if (lnfq_pending_answer(&model->pending, model->base + at)) {
                check_batch(model, at);
            }
            return;
        }
    }
}

/* Gives one verdict to all up to a place, as a user may ask for at any time. */
static void
answer_batch(struct model *model, unsigned int up_to)
{
    uint64_t count = 0;

    if (!model->pending.seen || up_to >= IDS || model->places[up_to] < RECEIVED) {
        return;
    }
    for (unsigned int at = 0; at <= up_to; at++) {
        count += model->unanswered[at];
        model->unanswered[at] = 0;
        if (model->places[at] != LOST) {
            model->places[at] = ANSWERED;
        }
    }
    if (count > 0) {
        lnfq_pending_answer_batch(&model->pending, count, model->base + up_to);
    }
}

static void
step(struct model *model, unsigned int operation, unsigned int argument)
{
    struct reader *reader = &model->readers[argument % READERS];

    switch (operation % 8) {
    case 0:
        reader_read(model, reader, operation >> 3, 0);
        break;
    case 1:
        reader_read(model, reader, operation >> 3, argument);
        break;
    case 2:
    case 3:
        reader_dispatch(model, reader);
        break;
    case 4:
        if (operation >= 128) { /* now and then only: there is no way back */
            stranger_read(model);
        }
        else {
            answer_batch(model, argument % IDS);
        }
        break;
    case 5:
        stranger_hand_in(model, argument % IDS);
        break;
    default:
        answer(model, argument);
        break;
    }
}

/* Ids count from 1; those near the wrap-around are reached by one that is lost, with all before. */
static void
begin(struct model *model, uint8_t start)
{
    model->base = 1;
    if (start >= 128) {
        model->base = (uint32_t)-(int32_t)(start - 128);
        lnfq_pending_receive(&model->pending, model->base - 1, true);
        (void)lnfq_pending_answer(&model->pending, model->base - 1);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model model = {0};

    if (size > 0) {
        begin(&model, data[0]);
    }
    for (size_t i = 1; i + 1 < size; i += 2) {
        step(&model, data[i], data[i + 1]);
    }
    return 0;
}
