/* Convert rows of numbers, one for each example, to blocks of 16 examples that lie side by side, and back. */
#include "threads.h"
#include "vector.h"

#define STRETCH 4096 /* numbers of each example that a task moves */

typedef struct { const float *from; float *to; int64_t examples, size, stretches; } job;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* What a task moves: numbers start..end-1 of the `here` examples of a block. */
typedef struct { int64_t block, start, end, here; } stretch;

INLINE stretch stretch_of(const job *j, int64_t task) {
    int64_t block = task / j->stretches, start = task % j->stretches * STRETCH;
    return (stretch){block, start, least(start + STRETCH, j->size), least(j->examples - block * LANES, LANES)};
}

static void to_blocks(void *context, int64_t task) {
    const job *j = context;
    const stretch s = stretch_of(j, task);
    for (int64_t k = s.start; k < s.end; k += LANES) {
        int64_t n = least(s.end - k, LANES);
        vec v[LANES];
        for (int i = 0; i < LANES; i++) {
            v[i] = all(0);
            if (i < s.here) memcpy(&v[i], j->from + (s.block * LANES + i) * j->size + k, n * sizeof(float));
        }
        transpose(v);
        for (int i = 0; i < n; i++) store(j->to + (s.block * j->size + k + i) * LANES, v[i]);
    }
}

static void from_blocks(void *context, int64_t task) {
    const job *j = context;
    const stretch s = stretch_of(j, task);
    for (int64_t k = s.start; k < s.end; k += LANES) {
        int64_t n = least(s.end - k, LANES);
        vec v[LANES];
        for (int i = 0; i < LANES; i++) v[i] = i < n ? load(j->from + (s.block * j->size + k + i) * LANES) : all(0);
        transpose(v);
        for (int i = 0; i < s.here; i++) memcpy(j->to + (s.block * LANES + i) * j->size + k, &v[i], n * sizeof(float));
    }
}

/* Convert rows (examples, size) to blocks (ceil(examples / 16), size, 16); lanes beyond the last example are zero. */
EXPORT void block(const float *rows, int64_t examples, int64_t size, float *blocks, int threads) {
    job j = {rows, blocks, examples, size, (size + STRETCH - 1) / STRETCH};
    parallel(threads, (examples + LANES - 1) / LANES * j.stretches, to_blocks, &j);
}

/* Convert blocks to rows; the inverse of `block`. */
EXPORT void unblock(const float *blocks, int64_t examples, int64_t size, float *rows, int threads) {
    job j = {blocks, rows, examples, size, (size + STRETCH - 1) / STRETCH};
    parallel(threads, (examples + LANES - 1) / LANES * j.stretches, from_blocks, &j);
}
