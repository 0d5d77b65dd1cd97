/* Draw standard normal numbers as functions of a seed and a position, so that they do not depend on the thread. */
#pragma once
#include "logarithm.h"

/* Apply Threefry-2x32 with 13 rounds, the fewest that pass BigCrush (Salmon et al. 2011), to the counters (x, y). */
INLINE void threefry(const int n, ivec *x, ivec *y, uint32_t k0, uint32_t k1) {
    const uint32_t key[3] = {k0, k1, 0x1BD11BDAu ^ k0 ^ k1};
    static const int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    EACH { x[i] += key[0]; y[i] += key[1]; }
#pragma clang loop unroll(full)
    for (int round = 0; round < 13; round++) {
        const int turn = turns[round % 8], group = round / 4 + 1;
        EACH x[i] += y[i];
        EACH y[i] = ((y[i] << turn) | (y[i] >> (32 - turn))) ^ x[i];
        if (round % 4 == 3) EACH { x[i] += key[group % 3]; y[i] += key[(group + 1) % 3] + group; }
    }
}

/* Compute 1/sqrt(a) to about 2 ulp for normal a > 0, and a finite number for a = 0: a first guess from the exponent,
   then Newton's method. */
INLINE void inverse_root(const int n, const vec *a, vec *y) {
    EACH y[i] = as_vec(0x5f375a86 - (as_bits(a[i]) >> 1));
#pragma clang loop unroll(full)
    for (int step = 0; step < 3; step++) EACH y[i] *= 1.5f - 0.5f * a[i] * y[i] * y[i];
}

/* Draw the normals out[2n] of the output vectors at[2n] by Box-Muller. The first and the second half of a vector are
   the two numbers of eight pairs; the counter of a pair is 8 at + lane. */
INLINE void normals(const int n, uint64_t seed, const int64_t *at, vec *out) {
    ivec x[n], y[n], quarter[n];
    svec odd[n];
    vec u[n], f[n], r[n], t[n], s[n], c[n];
    EACH {
        uint32_t a = (uint32_t)at[2 * i] << 3, b = (uint32_t)at[2 * i + 1] << 3;
        x[i] = (ivec){a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b}
             + (ivec){0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
        a = (uint32_t)(at[2 * i] >> 29), b = (uint32_t)(at[2 * i + 1] >> 29);
        y[i] = (ivec){a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b};
    }
    threefry(n, x, y, (uint32_t)seed, (uint32_t)(seed >> 32));
    EACH u[i] = __builtin_convertvector((svec)(x[i] >> 8), vec) * 0x1p-24f + 0x1p-25f; /* in (0, 1] */
    logarithms(n, u, u);
    EACH u[i] *= -2.0f;
    inverse_root(n, u, r);
    EACH r[i] *= u[i];
    /* the angle is `quarter` quarter turns plus t, with t in [-pi/4, pi/4) */
    EACH quarter[i] = (y[i] + 0x20000000u) >> 30;
    EACH t[i] = __builtin_convertvector((svec)(y[i] - (quarter[i] << 30)), vec) * 1.46291807927e-9f;
    EACH f[i] = t[i] * t[i];
    EACH s[i] = f[i] * -1.958792854566127e-4f + 8.332748897373676e-3f;
    EACH c[i] = f[i] * 2.4300443328684196e-5f - 1.3886394444853067e-3f;
    EACH s[i] = f[i] * s[i] - 0.166666641831398f;
    EACH c[i] = f[i] * c[i] + 0.04166663438081741f;
    EACH s[i] = f[i] * s[i] * t[i] + t[i];
    EACH c[i] = (f[i] * c[i] - 0.5f) * f[i] + 1.0f;
    EACH odd[i] = (svec)((quarter[i] & 1) != 0);
    EACH t[i] = as_vec(as_bits(where(odd[i], s[i])) | as_bits(where(~odd[i], c[i])));
    EACH s[i] = as_vec(as_bits(where(odd[i], c[i])) | as_bits(where(~odd[i], s[i])));
    EACH t[i] = r[i] * as_vec(as_bits(t[i]) ^ ((quarter[i] + 1) >> 1 << 31));
    EACH s[i] = r[i] * as_vec(as_bits(s[i]) ^ (quarter[i] >> 1 << 31));
    EACH { out[2 * i] = PICK(t[i], s[i], EVEN_8); out[2 * i + 1] = PICK(t[i], s[i], ODD_8); }
}
