/* Compute sparse convolutions and linear maps of means and variances, forwards and backwards.

   Examples lie 16 side by side (layout.c), so that a weight multiplies whole vectors, for any pattern of weights. A
   tile is up to TILE output positions of one channel. Their sums stay in registers while we go through the weights of
   the channel:

       m += mean * x,   v += variance * x^2        x: the input at the position, moved by the weight's offset.

   Backwards the roles of input and output are exchanged. With the output gradient g and r = g dy/dv,

       dx = sum(mean * g) + 2 x sum(variance * r),   dmean = sum(x * g),   dvariance = sum(x^2 * r).

   Inputs are read from a slab: a zero-padded copy of the rows that a task needs, for a block of channels that fits the
   second-level cache. Offsets into it count vectors. The order of every sum is independent of the number of threads. */
#include "contraction.h"
#include "normal.h"
#include "threads.h"
#include "vector.h"
#include <stdatomic.h>

#ifdef __AVX512F__
#define TILE 8 /* 2 x 8 sums and their factors fill the 32 registers */
/* Keep a sum in its register, and the order of the loads: otherwise the compiler loads everything first, and spills. */
#define PIN(v) __asm__ volatile("" : "+v"(v));
#else
#define TILE 2
#define PIN(v)
#endif

#define AHEAD 3 /* prefetch this many channels ahead, because the channels of a tile lie far apart in memory */
#define LARGEST_SLAB (640 * 1024) /* bytes */
#define FEWEST_ROWS 4

static int32_t floor_div(int32_t a, int32_t b) { return a / b - (a % b < 0); }
static int32_t ceil_div(int32_t a, int32_t b) { return -floor_div(-a, b); }
static int32_t least(int64_t a, int64_t b) { return (int32_t)(a < b ? a : b); }

/* -- how a layer is cut into tasks ------------------------------------------------------------------------ */

/* Blocks of examples in a group of positions: several if one block has too few positions to fill a tile. */
static int32_t blocks_of(int32_t height, int32_t width) { return ceil_div(TILE, height * width); }

/* Choose rows per task and channels per block so that their slab fits the cache: reduce rows first, then channels. */
static void fit(cut *c, int32_t rows, int32_t channels, int32_t stride, int32_t span, int64_t row_bytes) {
    c->rows = rows;
    while (c->rows > FEWEST_ROWS && channels * ((c->rows - 1) * stride + span) * row_bytes > LARGEST_SLAB) c->rows--;
    c->slab[0] = (c->rows - 1) * stride + span;
    c->blocks = 1;
    while (c->blocks < channels && ceil_div(channels, c->blocks) * c->slab[0] * row_bytes > LARGEST_SLAB) c->blocks++;
    c->channels = ceil_div(channels, c->blocks);
    c->blocks = ceil_div(channels, c->channels);
}

/* Fill in the derived fields of a layer. Returns 0 if the output would be empty or offsets would overflow. */
EXPORT int plan(layer *l) {
    for (int i = 0; i < 2; i++) {
        int32_t s = l->stride[i], p = l->padding[i], d = l->dilation[i], span = (l->kernel[i] - 1) * d + 1;
        l->out_size[i] = floor_div(l->in_size[i] + 2 * p - span, s) + 1;
        if (l->out_size[i] < 1) return 0;
        l->forward.slab[i] = (l->out_size[i] - 1) * s + span;
        /* kernel position k connects input s*i + phase to output i + (phase + p - k*d)/s, if that is an integer */
        int32_t low = INT32_MAX, high = INT32_MIN;
        for (int32_t phase = 0; phase < s; phase++)
            for (int32_t k = 0; k < l->kernel[i]; k++)
                if ((phase + p - k * d) % s == 0) {
                    int32_t move = (phase + p - k * d) / s;
                    low = move < low ? move : low;
                    high = move > high ? move : high;
                }
        l->low[i] = low;
        l->phase_size[i] = ceil_div(l->in_size[i], s);
        l->backward.slab[i] = l->phase_size[i] + high - low;
    }
    l->phases = l->stride[0] * l->stride[1];
    l->direct = !l->padding[0] && !l->padding[1];
    int32_t span = (l->kernel[0] - 1) * l->dilation[0] + 1;
    if (l->direct) { /* without padding the input itself serves as the slab */
        l->forward = (cut){l->out_size[0], l->in, 1, {l->in_size[0], l->in_size[1]}};
    } else
        fit(&l->forward, l->out_size[0], l->in, l->stride[0], span,
            (int64_t)l->forward.slab[1] * LANES * 4 * blocks_of(l->out_size[0], l->out_size[1]));
    fit(&l->backward, l->phase_size[0], l->out, 1, l->backward.slab[0] - l->phase_size[0] + 1,
        (int64_t)l->backward.slab[1] * LANES * 8 * blocks_of(l->phase_size[0], l->phase_size[1]));
    l->forward_rows = l->forward.blocks * l->out;
    l->backward_rows = l->backward.blocks * l->phases * l->in;
    return (int64_t)l->forward.channels * l->forward.slab[0] * l->forward.slab[1] < INT32_MAX / LANES &&
           (int64_t)l->backward.channels * l->backward.slab[0] * l->backward.slab[1] < INT32_MAX / LANES / 2;
}

/* Where a weight belongs in both directions: its row of weights, and the offset of what it multiplies. */
typedef struct { int32_t forward_row, forward_offset, backward_row, backward_offset; } place;

static place placed(const layer *l, int32_t coordinate) {
    int32_t k[2] = {coordinate / l->kernel[1] % l->kernel[0], coordinate % l->kernel[1]};
    int32_t channel = coordinate / (l->kernel[0] * l->kernel[1]), o = channel / l->in, c = channel % l->in;
    int32_t phase[2], move[2];
    for (int i = 0; i < 2; i++) {
        int32_t from = k[i] * l->dilation[i] - l->padding[i];
        phase[i] = from - floor_div(from, l->stride[i]) * l->stride[i];
        move[i] = (phase[i] - from) / l->stride[i] - l->low[i];
    }
    const cut *f = &l->forward, *b = &l->backward;
    return (place){
        c / f->channels * l->out + o,
        (c % f->channels * f->slab[0] + k[0] * l->dilation[0]) * f->slab[1] + k[1] * l->dilation[1],
        (o / b->channels * l->phases + phase[0] * l->stride[1] + phase[1]) * l->in + c,
        (o % b->channels * b->slab[0] + move[0]) * b->slab[1] + move[1],
    };
}

/* Arrange the weights at `coordinates` (flat, sorted, n) for both directions. Each pattern gets the start of every row
   of weights (rows + 1), the weights' offsets (n) and their slots (n). Returns 0, and writes nothing, if coordinates
   are not sorted or outside of the weight. */
EXPORT int arrange(const layer *l, const int32_t *coordinates, int32_t n, pattern *forward, pattern *backward) {
    const int64_t size = (int64_t)l->in * l->out * l->kernel[0] * l->kernel[1];
    for (int32_t i = 0; i < n; i++)
        if (coordinates[i] < 0 || coordinates[i] >= size || (i && coordinates[i] <= coordinates[i - 1])) return 0;
    memset(forward->starts, 0, (l->forward_rows + 1) * sizeof(int32_t));
    memset(backward->starts, 0, (l->backward_rows + 1) * sizeof(int32_t));
    for (int32_t i = 0; i < n; i++) {
        place at = placed(l, coordinates[i]);
        forward->starts[at.forward_row]++;
        backward->starts[at.backward_row]++;
    }
    for (int32_t row = 0, sum = 0; row <= l->forward_rows; row++) {
        int32_t here = forward->starts[row];
        forward->starts[row] = sum, sum += here;
    }
    for (int32_t row = 0, sum = 0; row <= l->backward_rows; row++) {
        int32_t here = backward->starts[row];
        backward->starts[row] = sum, sum += here;
    }
    for (int32_t i = 0; i < n; i++) { /* this advances the start of every row to that of the next row */
        place at = placed(l, coordinates[i]);
        int32_t f = forward->starts[at.forward_row]++, b = backward->starts[at.backward_row]++;
        forward->offsets[f] = at.forward_offset, forward->slots[f] = i;
        backward->offsets[b] = at.backward_offset, backward->slots[b] = i;
    }
    memmove(forward->starts + 1, forward->starts, l->forward_rows * sizeof(int32_t));
    memmove(backward->starts + 1, backward->starts, l->backward_rows * sizeof(int32_t));
    forward->starts[0] = backward->starts[0] = 0;
    return 1;
}

/* Copy the values of all slots into the order of the pattern; NULL if there is no memory. */
static const float *arranged(const pattern *p, int32_t n, const float *values, int slot) {
    float *to = scratch(slot, n * sizeof(float));
    if (to)
        for (int32_t i = 0; i < n; i++) to[i] = values[p->slots[i]];
    return to;
}

/* Groups of positions: some rows of one block of examples, or all rows of several blocks if they have few positions. */
typedef struct { int32_t rows, height, blocks, strips, groups; } grouping;

static grouping grouped(int32_t batch_blocks, int32_t rows, int32_t height, int32_t width) {
    grouping g = {rows, height, 1, ceil_div(height, rows), 0};
    if (g.strips == 1) g.blocks = blocks_of(height, width);
    g.groups = ceil_div(batch_blocks, g.blocks) * g.strips;
    return g;
}

/* -- forwards --------------------------------------------------------------------------------------------- */

typedef struct {
    const layer *l;
    const pattern *p;
    grouping g;
    const float *x, *means, *variances, *bias;
    float floor, *y, *slope;
    uint64_t seed;
    int32_t batch_blocks, last_lanes, parts;
    atomic_int *lacking; /* set if a task got no memory */
} forward_job;

/* A tile: for each position the address it reads from, its output vector in channel 0, and its number of examples. */
typedef struct { const float *from[TILE]; int64_t at[TILE]; int32_t lanes[TILE]; } tile;

INLINE void forward_tile(const int T, const int noise, const forward_job *j, const tile *tile, int32_t block,
                         int32_t begin, int32_t end) {
    const int64_t plane = (int64_t)j->l->out_size[0] * j->l->out_size[1];
    const int32_t *starts = j->p->starts + block * j->l->out, *offsets = j->p->offsets;
    const float *means = j->means, *variances = j->variances;
    const int first = block == 0, last = block == j->l->forward.blocks - 1;
    for (int32_t o = begin; o < end; o++) {
        vec m[TILE], v[TILE];
        int64_t at[TILE];
        if (o + AHEAD < end)
            for (int t = 0; t < T; t++) {
                const int64_t next = (tile->at[t] + (o + AHEAD) * plane) * LANES;
                __builtin_prefetch(j->y + next, 1);
                if (noise) __builtin_prefetch(j->slope + next, 1);
            }
        for (int t = 0; t < T; t++) {
            at[t] = tile->at[t] + o * plane;
            m[t] = first ? all(j->bias ? j->bias[o] : 0) : load(j->y + at[t] * LANES);
            if (noise) v[t] = first ? all(0) : load(j->slope + at[t] * LANES);
        }
        for (int32_t k = starts[o], stop = starts[o + 1]; k < stop; k++) {
            const int64_t offset = (int64_t)offsets[k] * LANES;
            const vec mean = all(means[k]), variance = all(noise ? variances[k] : 0);
#pragma clang loop unroll(full)
            for (int t = 0; t < T; t++) {
                const vec x = load(tile->from[t] + offset);
                m[t] += mean * x;
                if (noise) v[t] += variance * (x * x);
            }
        }
        if (noise && last) {
            /* y = m + sqrt(v) z and dy/dv = z / (2 sqrt(v)); no noise where v is zero */
            vec z[TILE], slope[TILE];
            int64_t pairs[TILE];
            for (int t = 0; t < TILE; t++) pairs[t] = at[t < T ? t : 0];
            normals(T > 1 ? T / 2 : 1, j->seed, pairs, z);
            for (int t = 0; t < T; t++) v[t] += j->floor;
            inverse_root(T, v, slope);
            for (int t = 0; t < T; t++) slope[t] *= 0.5f * z[t];
            for (int t = 0; t < T; t++) m[t] += 2.0f * v[t] * slope[t];
            for (int t = 0; t < T; t++) v[t] = where(v[t] >= 0x1p-126f, slope[t]);
        }
        for (int t = 0; t < T; t++) {
            if (last && tile->lanes[t] < LANES) {
                m[t] = where(first_lanes(tile->lanes[t]), m[t]);
                if (noise) v[t] = where(first_lanes(tile->lanes[t]), v[t]);
            }
            store(j->y + at[t] * LANES, m[t]);
            if (noise) store(j->slope + at[t] * LANES, v[t]);
        }
    }
}

static void fill_forward_slab(const forward_job *j, int32_t b, int32_t channel, int32_t row, float *to) {
    const layer *l = j->l;
    const int32_t height = l->in_size[0], width = l->in_size[1], left = l->padding[1], wide = l->forward.slab[1];
    const int32_t inside = least(width, wide - left);
    const float *from = j->x + ((int64_t)b * l->in + channel) * height * width * LANES;
    for (int32_t r = 0; r < l->forward.slab[0]; r++, to += wide * LANES) {
        const int32_t h = row * l->stride[0] - l->padding[0] + r;
        if (h < 0 || h >= height || inside <= 0) {
            memset(to, 0, wide * LANES * sizeof(float));
            continue;
        }
        memset(to, 0, left * LANES * sizeof(float));
        memcpy(to + left * LANES, from + (int64_t)h * width * LANES, inside * LANES * sizeof(float));
        memset(to + (left + inside) * LANES, 0, (wide - left - inside) * LANES * sizeof(float));
    }
}

INLINE void forward_task(const int noise, const forward_job *j, int64_t task) {
    const layer *l = j->l;
    const cut *cut = &l->forward;
    const int32_t group = (int32_t)(task / j->parts), part = (int32_t)(task % j->parts);
    const int32_t begin = (int32_t)((int64_t)l->out * part / j->parts);
    const int32_t end = (int32_t)((int64_t)l->out * (part + 1) / j->parts);
    const int32_t b0 = group / j->g.strips * j->g.blocks, b1 = least(b0 + j->g.blocks, j->batch_blocks);
    const int32_t h0 = group % j->g.strips * j->g.rows, h1 = least(h0 + j->g.rows, l->out_size[0]);
    const int32_t width = l->out_size[1], rows = h1 - h0, positions = (b1 - b0) * rows * width;
    const int64_t plane = (int64_t)cut->slab[0] * cut->slab[1];
    float *slab = NULL;
    if (!l->direct) {
        slab = scratch(SLAB, j->g.blocks * cut->channels * plane * LANES * sizeof(float));
        if (!slab) {
            atomic_store(j->lacking, 1);
            return;
        }
    }
    for (int32_t block = 0; block < cut->blocks; block++) {
        const int32_t c0 = block * cut->channels, c1 = least(c0 + cut->channels, l->in);
        if (!l->direct)
            for (int32_t b = b0; b < b1; b++)
                for (int32_t c = c0; c < c1; c++)
                    fill_forward_slab(j, b, c, h0, slab + ((b - b0) * cut->channels + c - c0) * plane * LANES);
        for (int32_t i = 0; i < positions;) {
            const int32_t left = positions - i, T = left >= TILE ? TILE : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            tile tile;
            for (int t = 0; t < T; t++) {
                const int32_t w = (i + t) % width, h = (i + t) / width % rows, b = (i + t) / width / rows;
                const int64_t example = l->direct ? ((int64_t)(b0 + b) * l->in) * plane : b * cut->channels * plane;
                const int64_t row = (l->direct ? h0 + h : h) * l->stride[0];
                tile.from[t] = (l->direct ? j->x : slab) + (example + row * cut->slab[1] + w * l->stride[1]) * LANES;
                tile.at[t] = ((int64_t)(b0 + b) * l->out * l->out_size[0] + h0 + h) * width + w;
                tile.lanes[t] = b0 + b == j->batch_blocks - 1 ? j->last_lanes : LANES;
            }
            switch (T) {
#if TILE == 8
            case 8: forward_tile(8, noise, j, &tile, block, begin, end); break;
            case 4: forward_tile(4, noise, j, &tile, block, begin, end); break;
#endif
            case 2: forward_tile(2, noise, j, &tile, block, begin, end); break;
            default: forward_tile(1, noise, j, &tile, block, begin, end);
            }
            i += T;
        }
    }
}

static void forward_noise(void *context, int64_t task) { forward_task(1, context, task); }
static void forward_mean(void *context, int64_t task) { forward_task(0, context, task); }

/* Compute y (batch blocks, out, out_size, 16) from x (batch blocks, in, in_size, 16) and slots (n). With variances y is
   drawn and slope is dy/dv; without them slope is not written. Returns 0 if there is not enough memory. */
EXPORT int forward(const layer *l, const pattern *p, int32_t n, int64_t examples, const float *x, const float *means,
                   const float *variances, const float *bias, float floor, uint64_t seed, float *y, float *slope,
                   int threads) {
    const int32_t blocks = (int32_t)((examples + LANES - 1) / LANES);
    atomic_int lacking = 0;
    forward_job j = {l, p, grouped(blocks, l->forward.rows, l->out_size[0], l->out_size[1]), x, means, variances, bias,
                     floor, y, slope, seed, blocks, (int32_t)(examples - (blocks - 1) * LANES), 1, &lacking};
    if (l->forward.blocks > 1) { /* with one block the slots are already in the order of the rows */
        j.means = arranged(p, n, means, MEANS);
        if (variances) j.variances = arranged(p, n, variances, VARIANCES);
        if (!j.means || (variances && !j.variances)) return 0;
    }
    if (j.g.groups % threads && j.g.groups < 4 * threads) j.parts = least(ceil_div(4 * threads, j.g.groups), l->out);
    parallel(threads, (int64_t)j.g.groups * j.parts, variances ? forward_noise : forward_mean, &j);
    return !lacking;
}

/* -- backwards -------------------------------------------------------------------------------------------- */

typedef struct {
    const layer *l;
    const pattern *p;
    grouping g;
    const float *x, *grad, *slope, *means, *variances;
    float *grad_x, *mean_sums, *variance_sums;
    int32_t n, batch_blocks, sets, parts;
    atomic_int *lacking;
} backward_job;

typedef struct { float *means, *variances; } sums_of; /* sums of one set of groups, in the order of the pattern */

INLINE void add(float *to, vec v, int n) {
    if (n == LANES) store(to, load(to) + v);
    else
        for (int i = 0; i < n; i++) to[i] += v[i];
}

INLINE void backward_tile(const int T, const int noise, const int input, const backward_job *j, const tile *tile,
                          const int32_t *starts, int first, int32_t begin, int32_t end, sums_of to) {
    const int64_t plane = (int64_t)j->l->in_size[0] * j->l->in_size[1];
    const int32_t *offsets = j->p->offsets;
    const float *means = j->means, *variances = j->variances;
    vec d[LANES], e[LANES]; /* products of the latest weights, summed over lanes for sixteen weights at a time */
    int held = 0;
    for (int32_t c = begin; c < end; c++) {
        vec m[TILE], v[TILE];
        struct { vec x[TILE], square[TILE]; } in;
        if (c + AHEAD < end)
            for (int t = 0; t < T; t++) {
                const int64_t at = (tile->at[t] + (c + AHEAD) * plane) * LANES;
                __builtin_prefetch(j->x + at);
                if (input) __builtin_prefetch(j->grad_x + at, 1);
            }
        for (int t = 0; t < T; t++) {
            in.x[t] = load(j->x + (tile->at[t] + c * plane) * LANES);
            in.square[t] = in.x[t] * in.x[t];
            m[t] = v[t] = all(0);
        }
        __asm__ volatile("" ::"r"(&in) : "memory"); /* keep the inputs in memory: registers are for the sums */
        for (int32_t k = starts[c], stop = starts[c + 1]; k < stop; k++) {
            const int64_t offset = (int64_t)offsets[k] * (noise ? 2 * LANES : LANES);
            const vec mean = all(means[k]), variance = all(noise ? variances[k] : 0);
            vec by_mean = all(0), by_variance = all(0);
#pragma clang loop unroll(full)
            for (int t = 0; t < T; t++) {
                const vec g = load(tile->from[t] + offset);
                if (input) m[t] += mean * g;
                by_mean += in.x[t] * g;
                if (noise) {
                    const vec r = load(tile->from[t] + offset + LANES);
                    if (input) v[t] += variance * r;
                    by_variance += in.square[t] * r;
                    PIN(v[t]) PIN(by_variance)
                }
                PIN(m[t]) PIN(by_mean)
            }
            d[held] = by_mean;
            if (noise) e[held] = by_variance;
            if (++held == LANES) {
                add(to.means + k - LANES + 1, sums(d), LANES);
                if (noise) add(to.variances + k - LANES + 1, sums(e), LANES);
                held = 0;
            }
        }
        if (input)
            for (int t = 0; t < T; t++) {
                float *at = j->grad_x + (tile->at[t] + c * plane) * LANES;
                vec g = m[t];
                if (noise) g += 2.0f * in.x[t] * v[t];
                store(at, first ? g : g + load(at));
            }
    }
    if (held) {
        const int32_t k = starts[end] - held;
        for (int i = held; i < LANES; i++) d[i] = e[i] = all(0);
        add(to.means + k, sums(d), held);
        if (noise) add(to.variances + k, sums(e), held);
    }
}

/* Fill the slab with rows of pairs (g, r), or of g alone without noise; zero where there is no output. */
INLINE void fill_backward_slab(const int noise, const backward_job *j, int32_t b, int32_t channel, int32_t row,
                               float *to) {
    const layer *l = j->l;
    const int32_t height = l->out_size[0], width = l->out_size[1], size = noise ? 2 * LANES : LANES;
    const int32_t wide = l->backward.slab[1];
    const int64_t from = ((int64_t)b * l->out + channel) * height * width;
    const int64_t ahead = channel + 1 < l->out ? (int64_t)height * width * LANES : 0; /* to the next channel */
    for (int32_t r = 0; r < l->backward.slab[0]; r++) {
        const int32_t h = row + l->low[0] + r, begin = h < 0 || h >= height ? wide : least(wide, -(int64_t)l->low[1]);
        int32_t c = 0;
        if (begin > 0) memset(to, 0, begin * size * sizeof(float)), c = begin;
        for (int32_t stop = begin == wide ? 0 : least(wide, (int64_t)width - l->low[1]); c < stop; c++) {
            const int64_t at = (from + (int64_t)h * width + c + l->low[1]) * LANES;
            const vec g = load(j->grad + at);
            __builtin_prefetch(j->grad + at + ahead);
            if (noise) __builtin_prefetch(j->slope + at + ahead);
            store(to + c * size, g);
            if (noise) store(to + c * size + LANES, g * load(j->slope + at));
        }
        if (c < wide) memset(to + c * size, 0, (wide - c) * size * sizeof(float));
        to += wide * size;
    }
}

INLINE void backward_task(const int noise, const int input, const backward_job *j, int64_t task) {
    const layer *l = j->l;
    const cut *cut = &l->backward;
    const int32_t set = (int32_t)(task / j->parts), part = (int32_t)(task % j->parts), size = noise ? 2 * LANES : LANES;
    const int32_t begin = (int32_t)((int64_t)l->in * part / j->parts);
    const int32_t end = (int32_t)((int64_t)l->in * (part + 1) / j->parts);
    const int64_t plane = (int64_t)cut->slab[0] * cut->slab[1];
    float *slab = scratch(SLAB, j->g.blocks * cut->channels * plane * size * sizeof(float));
    if (!slab) {
        atomic_store(j->lacking, 1);
        return;
    }
    const sums_of to = {j->mean_sums + (int64_t)set * j->n, noise ? j->variance_sums + (int64_t)set * j->n : NULL};
    const int32_t last = (int32_t)((int64_t)j->g.groups * (set + 1) / j->sets);
    for (int32_t group = (int32_t)((int64_t)j->g.groups * set / j->sets); group < last; group++) {
        const int32_t b0 = group / j->g.strips * j->g.blocks, b1 = least(b0 + j->g.blocks, j->batch_blocks);
        const int32_t i0 = group % j->g.strips * j->g.rows, i1 = least(i0 + j->g.rows, l->phase_size[0]);
        for (int32_t block = 0; block < cut->blocks; block++) {
            const int32_t o0 = block * cut->channels, o1 = least(o0 + cut->channels, l->out);
            for (int32_t b = b0; b < b1; b++)
                for (int32_t o = o0; o < o1; o++)
                    fill_backward_slab(noise, j, b, o, i0, slab + ((b - b0) * cut->channels + o - o0) * plane * size);
            for (int32_t phase = 0; phase < l->phases; phase++) {
                const int32_t ph = phase / l->stride[1], pw = phase % l->stride[1];
                const int32_t width = ceil_div(l->in_size[1] - pw, l->stride[1]);
                const int32_t rows = least(i1, ceil_div(l->in_size[0] - ph, l->stride[0])) - i0;
                if (rows <= 0 || width <= 0) continue;
                const int32_t *starts = j->p->starts + (int64_t)(block * l->phases + phase) * l->in;
                for (int32_t i = 0, positions = (b1 - b0) * rows * width; i < positions;) {
                    const int32_t left = positions - i, T = left >= TILE ? TILE : left >= 4 ? 4 : left >= 2 ? 2 : 1;
                    tile tile;
                    for (int t = 0; t < T; t++) {
                        const int32_t w = (i + t) % width, h = (i + t) / width % rows, b = (i + t) / width / rows;
                        const int64_t row = (i0 + h) * l->stride[0] + ph;
                        tile.from[t] = slab + (b * cut->channels * plane + (int64_t)h * cut->slab[1] + w) * size;
                        tile.at[t] = ((int64_t)(b0 + b) * l->in * l->in_size[0] + row) * l->in_size[1]
                                   + w * l->stride[1] + pw;
                    }
                    const int zero = block == 0;
                    switch (T) {
#if TILE == 8
                    case 8: backward_tile(8, noise, input, j, &tile, starts, zero, begin, end, to); break;
                    case 4: backward_tile(4, noise, input, j, &tile, starts, zero, begin, end, to); break;
#endif
                    case 2: backward_tile(2, noise, input, j, &tile, starts, zero, begin, end, to); break;
                    default: backward_tile(1, noise, input, j, &tile, starts, zero, begin, end, to);
                    }
                    i += T;
                }
            }
        }
    }
}

static void backward_noise_input(void *context, int64_t task) { backward_task(1, 1, context, task); }
static void backward_mean_input(void *context, int64_t task) { backward_task(0, 1, context, task); }
static void backward_noise(void *context, int64_t task) { backward_task(1, 0, context, task); }
static void backward_mean(void *context, int64_t task) { backward_task(0, 0, context, task); }

/* Compute the gradients of sum(grad * y): grad_x, of the shape of x, or NULL if not wanted; grad_means (n) by slot, and
   with a slope grad_variances (n). Returns 0 if there is not enough memory. */
EXPORT int backward(const layer *l, const pattern *p, int32_t n, int64_t examples, const float *x, const float *grad,
                    const float *slope, const float *means, const float *variances, float *grad_x, float *grad_means,
                    float *grad_variances, int threads) {
    const int32_t blocks = (int32_t)((examples + LANES - 1) / LANES);
    atomic_int lacking = 0;
    backward_job j = {l, p, grouped(blocks, l->backward.rows, l->phase_size[0], l->phase_size[1]), x, grad, slope,
                      means, variances, grad_x, NULL, NULL, n, blocks, 1, 1, &lacking};
    /* at most two sets of groups have sums of their own, for any number of threads; threads divide the channels */
    j.sets = j.g.groups > 1 ? 2 : 1;
    j.parts = least(ceil_div(threads, j.sets), l->in);
    const size_t bytes = (size_t)j.sets * n * sizeof(float);
    j.means = arranged(p, n, means, MEANS);
    j.mean_sums = scratch(MEAN_SUMS, bytes);
    if (slope) j.variances = arranged(p, n, variances, VARIANCES), j.variance_sums = scratch(VARIANCE_SUMS, bytes);
    if (n && (!j.means || !j.mean_sums || (slope && (!j.variances || !j.variance_sums)))) return 0;
    if (n) memset(j.mean_sums, 0, bytes);
    if (n && slope) memset(j.variance_sums, 0, bytes);
    parallel(threads, (int64_t)j.sets * j.parts,
             slope ? (grad_x ? backward_noise_input : backward_noise) : (grad_x ? backward_mean_input : backward_mean), &j);
    for (int32_t k = 0; k < n; k++) {
        grad_means[p->slots[k]] = j.mean_sums[k] + (j.sets == 2 ? j.mean_sums[k + n] : 0);
        if (slope) grad_variances[p->slots[k]] = j.variance_sums[k] + (j.sets == 2 ? j.variance_sums[k + n] : 0);
    }
    return !lacking;
}

/* -- for tests of the generator --------------------------------------------------------------------------- */

EXPORT void threefry_2x32(uint32_t counter[2], uint32_t k0, uint32_t k1) {
    ivec x = {counter[0]}, y = {counter[1]};
    threefry(1, &x, &y, k0, k1);
    counter[0] = x[0], counter[1] = y[0];
}

/* Write the normals of output vectors first..first+n-1, as `forward` draws them: out (n, 16). */
EXPORT void standard_normals(uint64_t seed, int64_t first, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        vec z[2];
        normals(1, seed, (int64_t[]){first + i, first + i}, z);
        store(out + i * LANES, z[0]);
    }
}
