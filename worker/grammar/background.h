/* For threads whose work may take long while others run steps in short turns. */
#ifndef WORKER_GRAMMAR_BACKGROUND_H
#define WORKER_GRAMMAR_BACKGROUND_H

/* The calling thread takes a processor from no other when it wakes, and gets a smaller share of one
 * that both want. A system that refuses that is slower, no more. */
void background_thread(void);

#endif
