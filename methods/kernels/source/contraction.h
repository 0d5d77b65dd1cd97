/* What Python hands over: methods/kernels/library.py repeats these structures. */
#pragma once
#include <stdint.h>

/* How one direction is cut: rows of positions a task, channels summed over a block, blocks; rows and columns of a slab. */
typedef struct { int32_t rows, channels, blocks, slab[2]; } cut;

typedef struct {
    int32_t in, out, in_size[2], kernel[2], stride[2], padding[2], dilation[2]; /* given */
    int32_t out_size[2], phases, phase_size[2], low[2], direct;                 /* by plan() */
    int32_t forward_rows, backward_rows;
    cut forward, backward;
} layer;

typedef struct { int32_t *starts, *offsets, *slots; } pattern;
