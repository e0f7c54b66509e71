/*
 * Log probabilities as clients of this kind of API read them. A token may be a part of a
 * character: its bytes are given, and its text shows what is not UTF-8 as \xNN. Plain functions.
 */
#ifndef GATEWAY_API_LOGPROBS_H
#define GATEWAY_API_LOGPROBS_H

#include "base/wire.h"
#include "gateway/api/writer.h"

/* Of a chat: {"token","logprob","bytes","top_logprobs":[...]} each, with commas between. */
void logprobs_put(struct writer *w, Wire__TokenLogprob *const *list, size_t count);

/* Of a completion: four arrays side by side; each function appends to one, without brackets. */
enum { LOGPROBS_TOKENS, LOGPROBS_VALUES, LOGPROBS_TOP, LOGPROBS_OFFSETS, LOGPROBS_ARRAYS };
/* *offset: where the first token begins in the text, in characters; then where the next does. */
void logprobs_put_array(struct writer *w, int array, Wire__TokenLogprob *const *list, size_t count,
                        int64_t *offset);

#endif
