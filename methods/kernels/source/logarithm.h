#pragma once
#include "vector.h"

/* Each step is done for n vectors before the next: a single vector would wait for the result of every step. */
#define EACH for (int i = 0; i < n; i++)

/* Compute y = log x to about 2 ulp for normal x > 0; x and y may be the same array. Here x = 2^e (1 + f) with f in
   [-1/3, 1/3), and log(1 + f) = f + f^2 p(f) to within 4e-9. */
INLINE void logarithms(const int n, const vec *x, vec *y) {
    static const float terms[] = {0.13756708800792694f, -0.12219586223363876f, 0.1405418962240219f,
        -0.1667809635400772f, 0.2000732272863388f, -0.24999839067459106f, 0.33333271741867065f, -0.5f};
    ivec e[n];
    vec f[n], p[n];
    EACH e[i] = (ivec)((svec)(as_bits(x[i]) - 0x3f2aaaab) >> 23);
    EACH f[i] = as_vec(as_bits(x[i]) - (e[i] << 23)) - 1.0f;
    EACH p[i] = all(-0.12734311819076538f);
#pragma clang loop unroll(full)
    for (int k = 0; k < 8; k++) EACH p[i] = p[i] * f[i] + terms[k];
    EACH y[i] = p[i] * (f[i] * f[i]) + f[i] + __builtin_convertvector((svec)e[i], vec) * 0.69314718f;
}
