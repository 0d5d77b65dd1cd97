/* From rows of numbers, one an example, to blocks of 16 examples whose numbers lie side by side, and back. */
#include "threads.h"
#include "vector.h"

#define STRETCH 4096 /* numbers of an example that a task moves */

typedef struct { const float *from; float *to; int64_t examples, size, stretches; } job;

static void to_blocks(void *context, int64_t task) {
    const job *j = context;
    int64_t block = task / j->stretches, start = task % j->stretches * STRETCH;
    int64_t end = start + STRETCH < j->size ? start + STRETCH : j->size;
    int64_t here = j->examples - block * LANES < LANES ? j->examples - block * LANES : LANES;
    for (int64_t k = start; k < end; k += LANES) {
        int64_t n = end - k < LANES ? end - k : LANES;
        vec v[LANES];
        for (int i = 0; i < LANES; i++) {
            v[i] = all(0);
            if (i < here) memcpy(&v[i], j->from + (block * LANES + i) * j->size + k, n * sizeof(float));
        }
        transpose(v);
        for (int i = 0; i < n; i++) store(j->to + (block * j->size + k + i) * LANES, v[i]);
    }
}

static void from_blocks(void *context, int64_t task) {
    const job *j = context;
    int64_t block = task / j->stretches, start = task % j->stretches * STRETCH;
    int64_t end = start + STRETCH < j->size ? start + STRETCH : j->size;
    int64_t here = j->examples - block * LANES < LANES ? j->examples - block * LANES : LANES;
    for (int64_t k = start; k < end; k += LANES) {
        int64_t n = end - k < LANES ? end - k : LANES;
        vec v[LANES];
        for (int i = 0; i < LANES; i++) v[i] = i < n ? load(j->from + (block * j->size + k + i) * LANES) : all(0);
        transpose(v);
        for (int i = 0; i < here; i++) memcpy(j->to + (block * LANES + i) * j->size + k, &v[i], n * sizeof(float));
    }
}

/* rows: examples x size. blocks: ceil(examples / 16) x size x 16; lanes beyond the last example are zero. */
EXPORT void block(const float *rows, int64_t examples, int64_t size, float *blocks, int threads) {
    job j = {rows, blocks, examples, size, (size + STRETCH - 1) / STRETCH};
    parallel(threads, (examples + LANES - 1) / LANES * j.stretches, to_blocks, &j);
}

EXPORT void unblock(const float *blocks, int64_t examples, int64_t size, float *rows, int threads) {
    job j = {blocks, rows, examples, size, (size + STRETCH - 1) / STRETCH};
    parallel(threads, (examples + LANES - 1) / LANES * j.stretches, from_blocks, &j);
}
