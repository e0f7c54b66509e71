/*
 * Weights as stored to weights of 8 or 4 bits with a scale per 32 columns, in the layout of
 * worker/cpu/blocks.inc.h. Any thread.
 */
#ifndef WORKER_CPU_QUANTISE_H
#define WORKER_CPU_QUANTISE_H

#include "worker/cpu/kernels.h"

size_t quantise_panel_bytes(enum weight_type type, int cols); /* cols: a multiple of 32 */
/* One panel of a stored matrix. */
void quantise_panel(const struct matrix *m, int panel, enum weight_type type, uint8_t *packed);
/* n values of a row of a panel, from a column on, as floats; both are multiples of 16. */
void quantise_widen(const struct matrix *m, const struct panel *panel, int row, int col, int n,
                    float *out);
/* e4m3; a NaN becomes 480. */
float quantise_widen_f8(uint8_t bits);
float quantise_widen_f16(uint16_t bits);

#endif
