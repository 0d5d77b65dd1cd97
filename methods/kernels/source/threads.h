/* A pool of threads of our own: torch's pool cannot be used from C, and hangs in a forked child. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef void (*work)(void *context, int64_t task);

/* Run work(context, 0..tasks-1) on up to `threads` threads, the caller's among them. Any thread may take any task, so
   tasks must write to different places. */
void parallel(int threads, int64_t tasks, work run, void *context);

/* Return memory of this thread, at least `bytes` long and aligned to a vector, or NULL if there is none. It is kept for
   the next call with the same slot, because new pages cost more time than the computations in them. */
enum { SLAB, MEANS, VARIANCES, MEAN_SUMS, VARIANCE_SUMS, KL_SUMS, SLOTS };
void *scratch(int slot, size_t bytes);
