/* Vectors of 16 floats on every machine; the compiler splits them where registers are smaller. */
#pragma once
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

typedef float vec __attribute__((vector_size(64)));
typedef uint32_t ivec __attribute__((vector_size(64)));
typedef int32_t svec __attribute__((vector_size(64)));

INLINE vec load(const float *from) {
    typedef float unaligned __attribute__((vector_size(64), aligned(4)));
    return *(const unaligned *)from;
}
INLINE void store(float *to, vec v) {
    typedef float unaligned __attribute__((vector_size(64), aligned(4)));
    *(unaligned *)to = v;
}
INLINE vec all(float f) { return (vec){f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f}; }
INLINE vec as_vec(ivec bits) { vec v; memcpy(&v, &bits, sizeof v); return v; }
INLINE ivec as_bits(vec v) { ivec bits; memcpy(&bits, &v, sizeof bits); return bits; }
INLINE vec where(svec condition, vec v) { return as_vec(as_bits(v) & (ivec)condition); }
INLINE svec first_lanes(int n) { return (svec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} < n; }
INLINE float sum(vec v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define EVEN_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define ODD_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define EVEN_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define ODD_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define ODD_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define EVEN_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define ODD_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31

/* Return a vector whose lane i is the sum of the lanes of v[i]. */
INLINE vec sums(const vec *v) {
    vec a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = PICK(v[2 * i], v[2 * i + 1], EVEN_1) + PICK(v[2 * i], v[2 * i + 1], ODD_1);
    for (int i = 0; i < 4; i++) b[i] = PICK(a[2 * i], a[2 * i + 1], EVEN_2) + PICK(a[2 * i], a[2 * i + 1], ODD_2);
    for (int i = 0; i < 2; i++) c[i] = PICK(b[2 * i], b[2 * i + 1], EVEN_4) + PICK(b[2 * i], b[2 * i + 1], ODD_4);
    return PICK(c[0], c[1], EVEN_8) + PICK(c[0], c[1], ODD_8);
}

/* Transpose 16 vectors in place. */
INLINE void transpose(vec *v) {
    vec a[16], b[16];
    for (int i = 0; i < 16; i += 2) a[i] = PICK(v[i], v[i + 1], EVEN_1), a[i + 1] = PICK(v[i], v[i + 1], ODD_1);
    for (int i = 0; i < 16; i++)
        if (!(i & 2)) b[i] = PICK(a[i], a[i + 2], EVEN_2), b[i + 2] = PICK(a[i], a[i + 2], ODD_2);
    for (int i = 0; i < 16; i++)
        if (!(i & 4)) a[i] = PICK(b[i], b[i + 4], EVEN_4), a[i + 4] = PICK(b[i], b[i + 4], ODD_4);
    for (int i = 0; i < 8; i++) v[i] = PICK(a[i], a[i + 8], EVEN_8), v[i + 8] = PICK(a[i], a[i + 8], ODD_8);
}
