#include "worker/cpu/widen.h"

#include <string.h>

/* The bits moved to where float32 has them; the product puts the exponent right, and makes
 * subnormal numbers normal. */
static float from_bits(uint32_t sign, uint32_t rest, float factor)
{
    float f;
    memcpy(&f, &rest, 4);
    f *= factor;
    memcpy(&rest, &f, 4);
    rest |= sign;
    memcpy(&f, &rest, 4);
    return f;
}

float widen_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = (uint32_t)(bits & 0x7fff) << 13;
    if ((bits & 0x7c00) == 0x7c00) /* not finite: it stays so */
        return from_bits(sign, rest | 0x7f800000u, 1);
    return from_bits(sign, rest, 0x1p112f);
}

float widen_f8(uint8_t bits)
{
    return from_bits((uint32_t)(bits & 0x80) << 24, (uint32_t)(bits & 0x7f) << 20, 0x1p120f);
}
