#include "billing/pricebook.h"

money_pico price_rate(const struct price *p, const struct token_counts *counts)
{
    /* Counts come from a worker: a cache hit beyond the prompt must not make a negative price. */
    int64_t hit = counts->cached < counts->prompt ? counts->cached : counts->prompt;
    int64_t miss = counts->prompt - hit;
    return (money_pico)miss * p->input_miss_pico + (money_pico)hit * p->input_hit_pico +
           (money_pico)counts->completion * p->output_pico;
}
