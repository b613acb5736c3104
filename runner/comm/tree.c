#include "comm/tree.h"

#include "device.h"

/* sum = left + right; sum may be left. */
static enum rp_status add(struct rp_device *device, const float *left, const float *right,
                          uint64_t n, float *sum, struct rp_error *err)
{
    struct rp_pass pass = {0};
    struct rp_op_call call = rp_op_add_call(left, right, n, sum);
    if (!device) {
        for (uint64_t i = 0; i < n; i++) sum[i] = left[i] + right[i];
        return RP_STATUS_OK;
    }
    return device->table->run(device, &call, &pass, err);
}

enum rp_status rp_tree_join(struct rp_device *device, float *node, int n_ranks, uint64_t n,
                            float *root, struct rp_error *err)
{
    if (n == 0) return RP_STATUS_OK;
    for (int width = 1; width < n_ranks; width *= 2) {
        for (int r = 0; r < n_ranks; r += 2 * width) {
            float *left = node + (uint64_t)r * n, *right = left + (uint64_t)width * n;
            RP_TRY(add(device, left, right, n, 2 * width == n_ranks ? root : left, err));
        }
    }
    return RP_STATUS_OK;
}
