/* For threads whose work may take long while others run steps in short turns. */
#ifndef WORKER_GRAMMAR_BACKGROUND_H
#define WORKER_GRAMMAR_BACKGROUND_H

#include <pthread.h>

/* The calling thread takes a processor from no other when it wakes, and gets a smaller share of one
 * that both want. A system that refuses that is slower, no more. */
void background_thread(void);

/* A lock that is held for moments: who finds it taken tries again before going to sleep, for to be
 * woken takes a hundred times as long. */
void background_mutex_init(pthread_mutex_t *lock);

#endif
