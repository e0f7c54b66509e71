/* Single numbers of the smaller types, as floats. Any thread. */
#ifndef WORKER_CPU_WIDEN_H
#define WORKER_CPU_WIDEN_H

#include <stdint.h>

float widen_f16(uint16_t bits);
float widen_f8(uint8_t bits); /* e4m3; a NaN becomes 480 */

#endif
