/* Compute batch normalisation of blocks, with an addition and a ReLU in the same pass. The numbers of a channel fit the
   cache of a core, so that reading them twice costs little. */
#include "threads.h"
#include "vector.h"
#include <math.h>

typedef struct {
    int64_t blocks, channels, positions; /* x: blocks x channels x positions x 16 */
    int32_t last_lanes, relu;            /* examples in the last block */
    float epsilon;
} shape;

typedef struct {
    const shape *s;
    const float *x, *residual, *weight, *bias;
    float *mean, *variance; /* of each channel: written if batch_statistics, otherwise read */
    float *y;
    int batch_statistics;
} forward_job;

INLINE svec valid(const shape *s, int64_t block) {
    return first_lanes(block == s->blocks - 1 ? s->last_lanes : LANES);
}
INLINE double count(const shape *s) { return (double)((s->blocks - 1) * LANES + s->last_lanes) * s->positions; }

static void statistics(const shape *s, const float *x, int64_t channel, float *mean, float *variance) {
    double total = 0, squares = 0;
    for (int64_t b = 0; b < s->blocks; b++) { /* lanes without an example are zero and do not change the sum */
        const float *from = x + (b * s->channels + channel) * s->positions * LANES;
        vec partial[4] = {all(0), all(0), all(0), all(0)};
        for (int64_t p = 0; p < s->positions; p++) partial[p & 3] += load(from + p * LANES);
        total += sum((partial[0] + partial[1]) + (partial[2] + partial[3]));
    }
    *mean = (float)(total / count(s));
    for (int64_t b = 0; b < s->blocks; b++) {
        const float *from = x + (b * s->channels + channel) * s->positions * LANES;
        svec in = valid(s, b);
        vec partial[4] = {all(0), all(0), all(0), all(0)};
        for (int64_t p = 0; p < s->positions; p++) {
            vec d = load(from + p * LANES) - *mean;
            partial[p & 3] += d * d;
        }
        squares += sum(where(in, (partial[0] + partial[1]) + (partial[2] + partial[3])));
    }
    *variance = (float)(squares / count(s));
}

static void forward_channel(void *context, int64_t c) {
    const forward_job *j = context;
    const shape *s = j->s;
    if (j->batch_statistics) statistics(s, j->x, c, j->mean + c, j->variance + c);
    float scale = (j->weight ? j->weight[c] : 1) / sqrtf(j->variance[c] + s->epsilon);
    float shift = (j->bias ? j->bias[c] : 0) - j->mean[c] * scale;
    for (int64_t b = 0; b < s->blocks; b++) {
        int64_t at = (b * s->channels + c) * s->positions * LANES;
        svec in = valid(s, b);
        for (int64_t end = at + s->positions * LANES; at < end; at += LANES) {
            vec y = load(j->x + at) * scale + shift;
            if (j->residual) y += load(j->residual + at);
            if (s->relu) y = where(~(y <= 0), y); /* this form keeps NaN */
            store(j->y + at, where(in, y));
        }
    }
}

EXPORT void normalise(const shape *s, const float *x, const float *residual, const float *weight, const float *bias,
                      float *mean, float *variance, float *y, int batch_statistics, int threads) {
    forward_job j = {s, x, residual, weight, bias, mean, variance, y, batch_statistics};
    parallel(threads, s->channels, forward_channel, &j);
}

typedef struct {
    const shape *s;
    const float *grad, *x, *y, *weight, *mean, *variance;
    float *grad_x, *grad_residual, *grad_weight, *grad_bias;
} backward_job;

/* Compute the gradients under batch statistics. With a ReLU, grad_residual holds the gradient before the ReLU. */
static void backward_channel(void *context, int64_t c) {
    const backward_job *j = context;
    const shape *s = j->s;
    float inverse = 1 / sqrtf(j->variance[c] + s->epsilon), mean = j->mean[c];
    double total = 0, product = 0;
    for (int64_t b = 0; b < s->blocks; b++) {
        int64_t at = (b * s->channels + c) * s->positions * LANES;
        vec t[2] = {all(0), all(0)}, q[2] = {all(0), all(0)};
        for (int64_t p = 0; p < s->positions; p++, at += LANES) {
            vec g = load(j->grad + at);
            if (s->relu) {
                g = where(load(j->y + at) > 0, g);
                store(j->grad_residual + at, g);
            }
            t[p & 1] += g;
            q[p & 1] += g * (load(j->x + at) - mean);
        }
        svec in = valid(s, b);
        total += sum(where(in, t[0] + t[1]));
        product += sum(where(in, q[0] + q[1]));
    }
    product *= inverse;
    if (j->grad_weight) j->grad_weight[c] = (float)product;
    if (j->grad_bias) j->grad_bias[c] = (float)total;
    float scale = (j->weight ? j->weight[c] : 1) * inverse;
    float slope = (float)(product / count(s)) * inverse, centre = (float)(total / count(s));
    const float *grad = s->relu ? j->grad_residual : j->grad;
    for (int64_t b = 0; b < s->blocks; b++) {
        int64_t at = (b * s->channels + c) * s->positions * LANES;
        svec in = valid(s, b);
        for (int64_t end = at + s->positions * LANES; at < end; at += LANES) {
            vec g = load(grad + at) - centre - slope * (load(j->x + at) - mean);
            store(j->grad_x + at, where(in, scale * g));
        }
    }
}

EXPORT void normalise_backward(const shape *s, const float *grad, const float *x, const float *y, const float *weight,
                               const float *mean, const float *variance, float *grad_x, float *grad_residual,
                               float *grad_weight, float *grad_bias, int threads) {
    backward_job j = {s, grad, x, y, weight, mean, variance, grad_x, grad_residual, grad_weight, grad_bias};
    parallel(threads, s->channels, backward_channel, &j);
}
