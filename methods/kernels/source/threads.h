/* A pool of threads of our own: torch's can't be reached from C, and hangs in a forked child. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef void (*work)(void *context, int64_t task);

/* Run work(context, 0..tasks-1) on up to `threads` threads, the caller's among them; which thread takes which
   task is chance, so tasks must write to places of their own. */
void parallel(int threads, int64_t tasks, work run, void *context);

/* Memory of this thread, at least `bytes` long and aligned to a vector, kept for the next call of the same slot:
   fresh pages cost more than what is computed in them. NULL where there is none. */
enum { SLAB, MEANS, VARIANCES, MEAN_SUMS, VARIANCE_SUMS, KL_SUMS, SLOTS };
void *scratch(int slot, size_t bytes);
