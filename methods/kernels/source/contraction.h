/* Structures that Python passes to the kernels; methods/kernels/library.py repeats them. */
#pragma once
#include <stdint.h>

/* How one direction is cut: rows of positions in a task, channels that a block sums over, number of blocks, and rows
   and columns of a slab. */
typedef struct { int32_t rows, channels, blocks, slab[2]; } cut;

typedef struct {
    int32_t in, out, in_size[2], kernel[2], stride[2], padding[2], dilation[2]; /* given by Python */
    int32_t out_size[2], phases, phase_size[2], low[2], direct;                 /* this and the rest: set by plan() */
    int32_t forward_rows, backward_rows;
    cut forward, backward;
} layer;

/* Active weights in the order in which one direction reads them (see `arrange`). */
typedef struct { int32_t *starts, *offsets, *slots; } pattern;
