#include "threads.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static struct {
    pthread_mutex_t busy; /* held by the caller whose job runs; other callers meanwhile work without helpers */
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    int started, wanted, active;
    uint64_t round;
    work run;
    void *context;
    int64_t tasks;
    atomic_llong next;
} pool = {
    .busy = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .start = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

static void take_tasks(void) {
    for (int64_t task; (task = atomic_fetch_add(&pool.next, 1)) < pool.tasks;) pool.run(pool.context, task);
}

static void *helper(void *number) {
    uint64_t seen = 0;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.round == seen) pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.round;
        if ((intptr_t)number >= pool.wanted) continue;
        pthread_mutex_unlock(&pool.lock);
        take_tasks();
        pthread_mutex_lock(&pool.lock);
        if (--pool.active == 0) pthread_cond_signal(&pool.done);
    }
    return NULL;
}

/* Reset the pool in a forked child: it has none of its parent's threads, and starts its own when it needs them. */
static void forget(void) {
    pool.started = pool.wanted = pool.active = 0;
    pool.round = 0;
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.start, NULL);
    pthread_cond_init(&pool.done, NULL);
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, forget); }

void parallel(int threads, int64_t tasks, work run, void *context) {
    if (threads > tasks) threads = (int)tasks;
    if (threads < 2 || pthread_mutex_trylock(&pool.busy)) {
        for (int64_t task = 0; task < tasks; task++) run(context, task);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    while (pool.started < threads - 1) {
        pthread_t id;
        if (pthread_create(&id, NULL, helper, (void *)(intptr_t)pool.started)) break;
        pthread_detach(id);
        pool.started++;
    }
    pool.wanted = pool.active = threads - 1 < pool.started ? threads - 1 : pool.started;
    pool.run = run;
    pool.context = context;
    pool.tasks = tasks;
    atomic_store(&pool.next, 0);
    pool.round++;
    pthread_cond_broadcast(&pool.start);
    pthread_mutex_unlock(&pool.lock);
    take_tasks();
    pthread_mutex_lock(&pool.lock);
    while (pool.active) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
}

static _Thread_local struct { void *memory; size_t bytes; } kept[SLOTS];
static pthread_key_t leaving;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void release(void *unused) {
    (void)unused;
    for (int slot = 0; slot < SLOTS; slot++) free(kept[slot].memory);
}
static void make_key(void) { pthread_key_create(&leaving, release); }

void *scratch(int slot, size_t bytes) {
    pthread_once(&once, make_key);
    pthread_setspecific(leaving, kept); /* a thread with any value set releases its memory when it ends */
    if (kept[slot].bytes < bytes) {
        free(kept[slot].memory);
        bytes = (bytes + 63) / 64 * 64;
        kept[slot].memory = aligned_alloc(64, bytes);
        kept[slot].bytes = kept[slot].memory ? bytes : 0;
    }
    return kept[slot].memory;
}
