/* reference.h - the sums of kernels/README.md chapters 2, 5 and 6, written the slow and obvious
 * way. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "ops_test.h"

/* One step of a sum: what `acc` becomes when element k comes in. A sum of x returns acc + x[k], a
 * sum of products fma(a[k], b[k], acc); an absent element returns acc. */
typedef float (*sum_step)(const void *arg, int64_t k, float acc);

/* Chapter 5: panels of 1024 elements, each a chain from +0; the first, plus the second, and so on.
 * `control` takes elements 1 and 2 in the wrong order. */
float sum_panels(int64_t n, sum_step step, const void *arg, bool control);

/* Chapter 6: the rows of each shard in panels, then the binary tree over the shards of the case. */
float sum_samples(const struct op_case *c, int64_t rows, sum_step step, const void *arg,
                  bool control);
/* Only the rows of one shard. */
float sum_shard(const struct op_case *c, int64_t rows, int shard, sum_step step, const void *arg,
                bool control);
/* Only the tree, over one number of each shard. */
float sum_tree(const float *of_shard, int n_shards);

/* Chapter 2, RSUM of x[0 .. n-1], and of the products a[i] * b[i]. `control` adds the halves of the
 * lanes in the wrong order: neighbours first. */
float sum_row(const float *x, int64_t n, bool control);
float sum_row_products(const float *a, const float *b, int64_t n, bool control);
/* The same of plain numbers in fp64. */
double sum_row64(const double *x, int64_t n, bool control);

#endif
