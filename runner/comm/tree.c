#include "comm/tree.h"

#include "device.h"

/* sum = left + right; sum may be either. */
static enum rp_status add(struct rp_device *device, const float *left, const float *right,
                          uint64_t n, float *sum, struct rp_error *err)
{
    struct rp_pass pass = {0};
    struct rp_op_call call = rp_op_add_call(left, right, n, sum);
    if (!device) {
        for (uint64_t i = 0; i < n; i++) sum[i] = left[i] + right[i];
        return RP_STATUS_OK;
    }
    if (device->table->beside_run) return device->table->beside_run(device, &call, err);
    return device->table->run(device, &call, &pass, err);
}

enum rp_status rp_tree_join_parts(struct rp_device *device, void *const *part, int n_ranks,
                                  uint64_t n, float *root, struct rp_error *err)
{
    if (n == 0) return RP_STATUS_OK;
    for (int width = 1; width < n_ranks; width *= 2)
        for (int r = 0; r < n_ranks; r += 2 * width)
            RP_TRY(add(device, part[r], part[r + width], n,
                       2 * width == n_ranks ? root : (float *)part[r], err));
    return RP_STATUS_OK;
}

enum rp_status rp_tree_join(struct rp_device *device, float *node, int n_ranks, uint64_t n,
                            float *root, struct rp_error *err)
{
    void *part[RP_COMM_MAX_RANKS];
    for (int r = 0; r < n_ranks; r++) part[r] = node + (uint64_t)r * n;
    return rp_tree_join_parts(device, part, n_ranks, n, root, err);
}
