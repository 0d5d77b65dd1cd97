/* Compute variances and KL divergences of Gaussian posteriors whose scale is a function of a parameter rho: softplus or
   exp. Every function reads its numbers once; the backward pass computes scales again instead of storing them. */
#include "logarithm.h"
#include "threads.h"
#include <math.h>

#define STRETCH 16384 /* numbers in a task */
#define SMALLEST 1e-12f /* SMALLEST_STD of methods/layers/posterior.py */

INLINE vec choose(svec condition, vec a, vec b) {
    return as_vec(as_bits(where(condition, a)) | as_bits(where(~condition, b)));
}

/* Compute e^x to about 2 ulp; 0 below -87, infinity above 88. */
INLINE vec exponential(vec x) {
    const vec clipped = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    const vec turns = clipped * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 leaves an integer in the lowest bits */
    const vec n = turns - 12582912.0f;
    const vec r = (clipped - n * 0.693145752f) - n * 1.42860677e-6f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const vec result = where(~(x < -87.0f), p * as_vec((as_bits(turns) - 0x4b400000u + 127u) << 23));
    return choose(x > 88.0f, all(INFINITY), result);
}

/* Compute log x for normal x > 0; NaN stays NaN. */
INLINE vec logarithm(vec x) {
    vec result;
    logarithms(1, &x, &result);
    return choose(x == x, result, x);
}

/* Compute the scale and its derivative in rho. */
INLINE void scale(const int softplus, vec rho, vec *std, vec *slope) {
    if (softplus) {
        const vec e = exponential(as_vec(as_bits(rho) | 0x80000000u)), u = 1.0f + e;
        /* log1p(e), corrected for the rounding of 1 + e */
        const vec rest = u - 1.0f, small = choose(rest == 0.0f, e, logarithm(u) * (e / choose(rest == 0.0f, u, rest)));
        *std = choose(rho > 0.0f, rho + small, small);
        *slope = choose(rho > 0.0f, all(1), e) / u;
    } else
        *std = *slope = exponential(rho);
    *std = choose(*std < SMALLEST, all(SMALLEST), *std);
    *slope = choose(*slope < SMALLEST, all(SMALLEST), *slope);
}

typedef struct {
    int64_t n;
    int softplus;
    const float *mean, *rho, *grad;
    float precision, factor, *out, *out_mean;
    double *sums;
} job;

INLINE vec part(const float *from, int64_t i, int64_t n) {
    if (i + LANES <= n) return load(from + i);
    vec v = all(0);
    memcpy(&v, from + i, (n - i) * sizeof(float));
    return v;
}
INLINE void keep(float *to, int64_t i, int64_t n, vec v) {
    if (i + LANES <= n) store(to + i, v);
    else memcpy(to + i, &v, (n - i) * sizeof(float));
}
#define EACH_OF_TASK                                                                                                  \
    for (int64_t i = task * STRETCH, n = j->n < (task + 1) * STRETCH ? j->n : (task + 1) * STRETCH; i < n; i += LANES)
static int64_t tasks(int64_t n) { return (n + STRETCH - 1) / STRETCH; }

static void variance_task(void *context, int64_t task) {
    const job *j = context;
    EACH_OF_TASK {
        vec std, slope;
        scale(j->softplus, part(j->rho, i, n), &std, &slope);
        keep(j->out, i, n, std * std);
    }
}

static void variance_backward_task(void *context, int64_t task) {
    const job *j = context;
    EACH_OF_TASK {
        vec std, slope;
        scale(j->softplus, part(j->rho, i, n), &std, &slope);
        keep(j->out, i, n, 2.0f * std * slope * part(j->grad, i, n));
    }
}

static void kl_task(void *context, int64_t task) {
    const job *j = context;
    vec squares = all(0), logs = all(0);
    EACH_OF_TASK {
        const svec in = first_lanes(n - i < LANES ? (int)(n - i) : LANES);
        vec std, slope, mean = part(j->mean, i, n);
        scale(j->softplus, part(j->rho, i, n), &std, &slope);
        squares += where(in, std * std + mean * mean);
        logs += where(in, logarithm(std));
    }
    j->sums[2 * task] = sum(squares);
    j->sums[2 * task + 1] = sum(logs);
}

static void kl_backward_task(void *context, int64_t task) {
    const job *j = context;
    EACH_OF_TASK {
        vec std, slope;
        scale(j->softplus, part(j->rho, i, n), &std, &slope);
        keep(j->out_mean, i, n, part(j->mean, i, n) * (j->precision * j->factor));
        keep(j->out, i, n, (std * j->precision - 1.0f / std) * slope * j->factor);
    }
}

/* Write the squares of the scales of rho (n) to out (n). */
EXPORT void variance(int64_t n, int softplus, const float *rho, float *out, int threads) {
    job j = {.n = n, .softplus = softplus, .rho = rho, .out = out};
    parallel(threads, tasks(n), variance_task, &j);
}

/* Write the gradient in rho to out (n), given the gradient in the variance. */
EXPORT void variance_backward(int64_t n, int softplus, const float *rho, const float *grad, float *out, int threads) {
    job j = {.n = n, .softplus = softplus, .rho = rho, .grad = grad, .out = out};
    parallel(threads, tasks(n), variance_backward_task, &j);
}

/* Return the sum of log(prior/std) + (std^2 + mean^2) / (2 prior^2) - 1/2, in nats; NaN if there is no memory. */
EXPORT double kl(int64_t n, int softplus, const float *mean, const float *rho, double prior_std, int threads) {
    job j = {.n = n, .softplus = softplus, .mean = mean, .rho = rho};
    j.sums = scratch(KL_SUMS, 2 * (tasks(n) + 1) * sizeof(double));
    if (!j.sums) return NAN;
    parallel(threads, tasks(n), kl_task, &j);
    double squares = 0, logs = 0;
    for (int64_t task = 0; task < tasks(n); task++) squares += j.sums[2 * task], logs += j.sums[2 * task + 1];
    return squares / (2 * prior_std * prior_std) - logs + (double)n * (log(prior_std) - 0.5);
}

/* Write the gradients of the KL in mean and rho (n), times factor. */
EXPORT void kl_backward(int64_t n, int softplus, const float *mean, const float *rho, float precision, float factor,
                        float *grad_mean, float *grad_rho, int threads) {
    job j = {.n = n, .softplus = softplus, .mean = mean, .rho = rho, .precision = precision, .factor = factor,
             .out = grad_rho, .out_mean = grad_mean};
    parallel(threads, tasks(n), kl_backward_task, &j);
}
