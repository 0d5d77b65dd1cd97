/* Find the largest of many numbers by counting instead of sorting: the number of passes is always the same. */
#include "threads.h"
#include "vector.h"
#include <stdlib.h>

#define STRETCH 65536 /* numbers in a task */
#define DIGITS 2048   /* possible values of eleven bits, one digit */

/* Map a float to an unsigned integer, so that integers have the order of the floats. */
INLINE uint32_t ordered(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/* Map such an integer back to its float. */
INLINE float number(uint32_t order) {
    float f;
    order ^= order >> 31 ? 0x80000000u : 0xffffffffu;
    memcpy(&f, &order, sizeof f);
    return f;
}

typedef struct {
    const float *values;
    int64_t n;
    uint32_t *histograms;   /* one for each task */
    int64_t *above, *equal; /* for each task: how many numbers are above the threshold, and equal to it; later where
                               the task writes, and how many equal numbers earlier tasks have */
    float threshold;
    int64_t ties, *chosen;
} job;

INLINE int64_t end_of(const job *j, int64_t task) {
    return j->n < (task + 1) * STRETCH ? j->n : (task + 1) * STRETCH;
}

static void count_digits(void *context, int64_t task) {
    const job *j = context;
    uint32_t *histogram = j->histograms + task * DIGITS;
    memset(histogram, 0, DIGITS * sizeof *histogram);
    for (int64_t i = task * STRETCH; i < end_of(j, task); i++) histogram[ordered(j->values[i]) >> 21]++;
}

static void count_above(void *context, int64_t task) {
    const job *j = context;
    int64_t above = 0, equal = 0;
    for (int64_t i = task * STRETCH; i < end_of(j, task); i++)
        above += j->values[i] > j->threshold, equal += j->values[i] == j->threshold;
    j->above[task] = above, j->equal[task] = equal;
}

static void choose(void *context, int64_t task) {
    const job *j = context;
    int64_t *to = j->chosen + j->above[task], ties = j->equal[task];
    for (int64_t i = task * STRETCH; i < end_of(j, task); i++) {
        if (j->values[i] < j->threshold) continue;
        if (j->values[i] > j->threshold || ties++ < j->ties) *to++ = i;
    }
}

/* Return the digit of the wanted-th largest number; `wanted` becomes its rank among the numbers with that digit. */
static uint32_t leading(const uint32_t *histogram, uint32_t digits, int64_t *wanted) {
    while (digits-- > 0) {
        if (histogram[digits] >= *wanted) return digits;
        *wanted -= histogram[digits];
    }
    return 0;
}

/* Write the positions of the k largest of values (n) to chosen (k), ascending; 0 < k <= n. Of equal numbers those at
   the lowest positions are taken. There must be no NaN. Returns 0 if there is not enough memory. */
EXPORT int largest(const float *values, int64_t n, int64_t k, int64_t *chosen, int threads) {
    const int64_t tasks = (n + STRETCH - 1) / STRETCH;
    job j = {.values = values, .n = n, .chosen = chosen};
    j.histograms = malloc(tasks * (DIGITS * sizeof(uint32_t) + 2 * sizeof(int64_t)));
    if (!j.histograms) return 0;
    j.above = (int64_t *)(j.histograms + tasks * DIGITS), j.equal = j.above + tasks;
    parallel(threads, tasks, count_digits, &j);
    for (int64_t task = 1; task < tasks; task++)
        for (int d = 0; d < DIGITS; d++) j.histograms[d] += j.histograms[task * DIGITS + d];
    int64_t wanted = k;
    uint32_t threshold = leading(j.histograms, DIGITS, &wanted);
    /* only the numbers that share the threshold's first eleven bits are still open: few, unless numbers are alike */
    const int64_t here = j.histograms[threshold];
    uint32_t *same = malloc(here * sizeof *same);
    if (!same) {
        free(j.histograms);
        return 0;
    }
    for (int64_t i = 0, held = 0; held < here; i++)
        if (ordered(values[i]) >> 21 == threshold) same[held++] = ordered(values[i]);
    for (int shift = 10; shift >= 0; shift -= 10) { /* the next eleven bits, then the last ten */
        const uint32_t digits = shift ? DIGITS : DIGITS / 2;
        memset(j.histograms, 0, DIGITS * sizeof *j.histograms);
        for (int64_t i = 0; i < here; i++)
            if ((uint64_t)same[i] >> (shift ? 21 : 10) == threshold) j.histograms[same[i] >> shift & (digits - 1)]++;
        threshold = threshold * digits + leading(j.histograms, digits, &wanted);
    }
    free(same);
    j.threshold = number(threshold);
    parallel(threads, tasks, count_above, &j);
    int64_t above = 0, equal = 0;
    for (int64_t task = 0; task < tasks; task++) above += j.above[task];
    j.ties = k - above;
    above = 0;
    for (int64_t task = 0; task < tasks; task++) {
        const int64_t more = j.above[task], ties = j.equal[task];
        j.above[task] = above + (equal < j.ties ? equal : j.ties);
        j.equal[task] = equal;
        above += more, equal += ties;
    }
    parallel(threads, tasks, choose, &j);
    free(j.histograms);
    return 1;
}
