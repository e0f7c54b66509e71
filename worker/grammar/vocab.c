#include "worker/grammar/private.h"

/* Bytes that no JSON text has: C0 controls but tab, newline and return, and what UTF-8 never uses.
 */
static bool byte_needed(int byte)
{
    return byte >= 0x20 && byte != 0x7f && byte != 0xc0 && byte != 0xc1 && byte < 0xf5;
}

static enum status check_bytes(const struct trie *t, struct error *err)
{
    bool have[256] = {false};
    for (uint32_t i = 1; i < t->node_count; i = t->nodes[i].skip)
        have[t->nodes[i].byte] = t->nodes[i].entry < t->nodes[i + 1].entry;
    for (int b = 0; b < 256; b++)
        if (byte_needed(b) && !have[b])
            return error_set(err, INVALID, "the tokenizer has no token for the byte 0x%02x alone",
                             (unsigned)b);
    return OK;
}

static enum status make_trie(struct grammar_vocab *v, struct error *err)
{
    int size = tokenizer_vocab_size(v->tokenizer);
    struct trie_entry *entries = malloc(((size_t)size + 1) * sizeof *entries);
    uint32_t count = 0;
    for (int id = 0; entries && id < size; id++) {
        size_t len;
        const uint8_t *bytes = tokenizer_bytes(v->tokenizer, id, &len);
        if (bytes && len > 0 && len <= UINT16_MAX && !tokenizer_is_added(v->tokenizer, id))
            entries[count++] = (struct trie_entry){bytes, (uint32_t)len, id, 0};
    }
    bool ok = entries && trie_build(&v->trie, entries, count);
    free(entries);
    return ok ? check_bytes(&v->trie, err) : error_set(err, NOMEM, "out of memory");
}

static enum status make_core(struct grammar_vocab *v, struct error *err)
{
    automaton_init(&v->core, 4096, 1 << 20);
    core_build(&v->core);
    enum status st = automaton_finish(&v->core, err);
    if (st != OK)
        return st;
    v->core_masks = calloc(v->core.node_count, sizeof(struct mask_entry *));
    if (!v->core_masks)
        return error_set(err, NOMEM, "out of memory");
    for (uint32_t i = 0; i < v->core.node_count; i++) {
        v->core_masks[i] = mask_entry_new(&v->core, &v->trie, v->words, i,
                                          grammar_room(&v->core, i, GRAMMAR_DEPTH));
        if (!v->core_masks[i])
            return error_set(err, NOMEM, "out of memory");
        v->core_bytes += v->core_masks[i]->bytes;
    }
    return OK;
}

static enum status take_ends(struct grammar_vocab *v, const int32_t *ids, size_t count,
                             struct error *err)
{
    int size = tokenizer_vocab_size(v->tokenizer);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= size)
            return error_set(err, INVALID, "end token %d is not one of the %d tokens", ids[i],
                             size);
    v->end_ids = malloc((count + 1) * sizeof *v->end_ids);
    if (!v->end_ids)
        return error_set(err, NOMEM, "out of memory");
    if (count)
        memcpy(v->end_ids, ids, count * sizeof *ids);
    v->end_count = count;
    return OK;
}

enum status grammar_vocab_new(const struct tokenizer *t, const int32_t *end_ids, size_t end_count,
                              struct grammar_vocab **out, struct error *err)
{
    struct grammar_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return error_set(err, NOMEM, "out of memory");
    v->tokenizer = t;
    v->words = ((uint32_t)tokenizer_vocab_size(t) + 31) / 32;
    v->store = mask_store_new(GRAMMAR_ALL_MASKS_BYTES_MAX, GRAMMAR_MASK_BYTES_MAX);
    enum status st =
        v->store ? take_ends(v, end_ids, end_count, err) : error_set(err, NOMEM, "out of memory");
    if (st == OK)
        st = make_trie(v, err);
    if (st == OK)
        st = make_core(v, err);
    if (st == OK)
        *out = v;
    else
        grammar_vocab_free(v);
    return st;
}

void grammar_vocab_free(struct grammar_vocab *v)
{
    if (!v)
        return;
    for (uint32_t i = 0; v->core_masks && i < v->core.node_count; i++)
        mask_entry_free(v->core_masks[i]);
    free(v->core_masks);
    automaton_done(&v->core);
    trie_done(&v->trie);
    mask_store_free(v->store);
    free(v->end_ids);
    free(v);
}

size_t grammar_vocab_words(const struct grammar_vocab *v)
{
    return v->words;
}

size_t grammar_vocab_bytes(const struct grammar_vocab *v)
{
    return sizeof *v + trie_bytes(&v->trie) + automaton_bytes(&v->core) + v->core_bytes +
           mask_store_bytes(v->store);
}
