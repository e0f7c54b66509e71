/*
 * Guessing ahead with the model's own layer for multi-token prediction. Behind each step the layer
 * guesses the tokens that follow; the next step computes them as further rows. A guess is taken
 * when it is the very token that the sampler picks from the row before it, so what a request makes
 * is the same with and without: guesses only decide how many tokens a step makes. The sampler
 * draws guesses with the same seed and number as the pick that judges them, so they agree often
 * (see worker/sampler.h), and under the same mask, bias and penalties.
 */
#include <assert.h>

#include "worker/scheduler_private.h"

enum status draft_init(struct scheduler *s, struct error *err)
{
    s->depth = 0;
    if (s->options.speculate == SPECULATE_OFF)
        return OK;
    if (!model_has_mtp(s->model))
        return s->options.speculate == SPECULATE_AUTO
                   ? OK
                   : error_set(err, INVALID,
                               "speculation is on, and the model has no layer that guesses");
    size_t hidden = model_hidden_size(s->model), rows = (size_t)s->options.step_tokens;
    size_t sequences = (size_t)s->options.sequences_max;
    if (s->options.drafts < 0 || s->options.drafts > SCHED_DRAFTS_MAX)
        return error_set(err, INVALID, "%d guesses in a step: at most %d", s->options.drafts,
                         SCHED_DRAFTS_MAX);
    s->depth = s->options.drafts ? s->options.drafts : 1;
    s->draft_rows = calloc(rows, sizeof *s->draft_rows);
    s->drafters = calloc(sequences, sizeof(struct sequence *));
    s->hidden = calloc(rows * hidden, sizeof *s->hidden);
    s->draft_hidden = calloc(2 * sequences * hidden, sizeof *s->draft_hidden);
    if (!s->draft_rows || !s->drafters || !s->hidden || !s->draft_hidden)
        return error_set(err, NOMEM, "out of memory for speculation");
    return OK;
}

void draft_done(struct scheduler *s)
{
    free(s->draft_rows);
    free(s->drafters);
    free(s->hidden);
    free(s->draft_hidden);
}

bool draft_chosen(struct scheduler *s, const struct request *r)
{
    if (!s->depth)
        return false;
    return s->options.speculate == SPECULATE_ON ||
           speculate_choose(&s->pace, s->running_count + (int)r->choices);
}

/* With AUTO, nothing is guessed while many run, also not for requests that began when few did. */
void draft_begin(struct scheduler *s)
{
    bool few = s->options.speculate == SPECULATE_ON || s->running_count <= SPECULATE_SEQUENCES_MAX;
    s->drafting = false;
    for (int i = 0; i < s->running_count && few; i++)
        s->drafting |= s->running[i]->request->guesses;
}

void draft_note(struct scheduler *s, int64_t us)
{
    int sequences = 0, judging = 0, made = 0;
    if (s->options.speculate != SPECULATE_AUTO || !s->depth)
        return;
    for (int i = 0; i < s->running_count; i++) {
        const struct sequence *q = s->running[i];
        if (!q->rows)
            continue;
        if (q->done < q->request->prompt || q->fresh == 0 || q->made == (uint32_t)q->fresh)
            return; /* it read a prompt, or was ended by somebody */
        sequences++;
        judging += q->judges;
        made += q->fresh;
    }
    bool guessed = s->drafting && judging == sequences;
    if (sequences && (guessed || (!s->drafting && !judging)))
        speculate_note(&s->pace, guessed, sequences, (double)us / made);
}

static float *hidden_of(const struct scheduler *s, float *base, int row)
{
    return base + (size_t)row * model_hidden_size(s->model);
}

float *draft_hidden_row(const struct scheduler *s, int row)
{
    return s->drafting ? hidden_of(s, s->hidden, row) : NULL;
}

static struct batch_row row_of(const struct scheduler *s, const struct sequence *q, int row,
                               uint32_t at)
{
    return (struct batch_row){.token = q->tokens[at + 1],
                              .position = (int32_t)at,
                              .blocks = q->blocks,
                              .hidden_in = hidden_of(s, s->hidden, row)};
}

void draft_read(struct scheduler *s)
{
    int count = 0;
    for (int i = 0; i < s->running_count && s->drafting; i++) {
        const struct sequence *q = s->running[i];
        if (q->state != SEQUENCE_PREFILL || !q->request->guesses)
            continue;
        for (int j = 0; j < q->rows && q->done + (uint32_t)j + 1 < q->request->prompt; j++)
            s->draft_rows[count++] = row_of(s, q, q->first_row + j, q->done + (uint32_t)j);
    }
    if (count)
        model_mtp_forward(s->model, s->kv, s->draft_rows, count, NULL);
}

static bool wants_drafts(const struct sequence *q)
{
    return q->request->guesses && q->state == SEQUENCE_DECODE && q->fresh > 0 &&
           q->made + (uint32_t)q->drafts + 1 < q->request->max_tokens;
}

/* What the step has told: rows of the sequences that go on; the last of each is to guess. */
static int compose_first(struct scheduler *s, int *drafters)
{
    int count = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (!wants_drafts(q) || count + q->fresh > s->options.step_tokens)
            continue;
        for (int j = 0; j < q->fresh; j++)
            s->draft_rows[count++] = row_of(s, q, q->fresh_row + j, q->fresh_at + (uint32_t)j);
        s->draft_rows[count - 1].wants_logits = true;
        s->draft_rows[count - 1].hidden_out = hidden_of(s, s->draft_hidden, *drafters);
        s->drafters[(*drafters)++] = q;
    }
    return count;
}

/* One row for each that goes on guessing. Hidden states are read from one half of draft_hidden and
 * written to the other. */
static int compose_further(struct scheduler *s, int *drafters, int round)
{
    int kept = 0, half = s->options.sequences_max;
    int from = round % 2 ? 0 : half, to = round % 2 ? half : 0;
    for (int i = 0; i < *drafters; i++) {
        struct sequence *q = s->drafters[i];
        uint32_t last = q->request->prompt + q->made + (uint32_t)q->drafts - 1;
        if (q->drafts < round || !wants_drafts(q))
            continue;
        s->draft_rows[kept] =
            (struct batch_row){.token = q->tokens[last],
                               .position = (int32_t)last - 1,
                               .blocks = q->blocks,
                               .wants_logits = true,
                               .hidden_in = hidden_of(s, s->draft_hidden, from + i),
                               .hidden_out = hidden_of(s, s->draft_hidden, to + kept)};
        s->drafters[kept++] = q;
    }
    *drafters = kept;
    return kept;
}

void draft_guess(struct scheduler *s)
{
    int drafters = 0;
    int count = s->drafting ? compose_first(s, &drafters) : 0;
    for (int round = 1; count > 0; round++) {
        model_mtp_forward(s->model, s->kv, s->draft_rows, count, s->logits);
        for (int i = 0; i < drafters; i++) {
            struct sequence *q = s->drafters[i];
            const float *logits = s->logits + (size_t)i * model_vocab_size(s->model);
            int32_t token = sequence_pick(s, q, logits, true);
            if (token >= 0)
                q->tokens[q->request->prompt + q->made + (uint32_t)q->drafts++] = token;
        }
        count = round < s->depth ? compose_further(s, &drafters, round) : 0;
    }
}
