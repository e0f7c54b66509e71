/* The local share of the limits, for while Redis is away. Private to admission. */
#ifndef AUTH_ADMISSION_LOCAL_H
#define AUTH_ADMISSION_LOCAL_H

#include "auth/admission_batch.h"

struct local_share;

struct local_share *local_share_new(int divisor);
void local_share_free(struct local_share *l);
void local_share_set(struct local_share *l, int divisor);
/* Decides by the share of each limit. When *out says held, local_share_settle must follow. */
void local_share_ask(struct local_share *l, const struct ask *ask, int64_t now_ms,
                     struct admit_result *out);
/* false: the request was not admitted here. */
bool local_share_settle(struct local_share *l, const struct uuid *request_id, int64_t tokens);

#endif
