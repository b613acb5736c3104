#include "comm/tree.h"

void rp_tree_join(float *node, int n_ranks, uint64_t n)
{
    for (int width = 1; width < n_ranks; width *= 2) {
        for (int r = 0; r < n_ranks; r += 2 * width) {
            float *left = node + (uint64_t)r * n;
            const float *right = node + (uint64_t)(r + width) * n;
            for (uint64_t i = 0; i < n; i++) left[i] = left[i] + right[i];
        }
    }
}
