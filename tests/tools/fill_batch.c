/* fill_batch.c - what the model sees, as raw binary32 on standard output.
 *
 *   fill_batch SPEC train POSITION N      N training samples from a position on
 *   fill_batch SPEC targets POSITION N    their targets, as they lie in memory
 *   fill_batch SPEC valid FIRST N         N samples of the validation split */
#include "data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct rp_error *err = RP_NEW(struct rp_error);
    struct rp_spec *spec = NULL;
    struct rp_data *data = NULL;
    if (argc != 5) return 2;
    enum rp_status status = rp_spec_load(argv[1], &(struct rp_spec_options){0}, &spec, err);
    if (status == RP_STATUS_OK) status = rp_data_open(spec, NULL, &data, err);
    if (status != RP_STATUS_OK) {
        fprintf(stderr, "%s\n", err->text);
        return (int)status;
    }
    const struct rp_data_shape *shape = rp_data_shape(data);
    int64_t row = shape->dims[0] * (shape->n_dims == 3 ? shape->dims[1] * shape->dims[2] : 1);
    uint64_t first = strtoull(argv[3], NULL, 10);
    int64_t n = strtoll(argv[4], NULL, 10);
    int64_t width = shape->mixes                         ? 3
                    : shape->target == RP_TARGET_CLASSES ? 1
                    : shape->target == RP_TARGET_VALUES  ? shape->n_values
                                                         : row;
    float *x = RP_NEW_ARRAY(float, n *row), *y = RP_NEW_ARRAY(float, n *width);
    bool targets = strcmp(argv[2], "targets") == 0;
    if (targets || strcmp(argv[2], "train") == 0)
        rp_data_fill_train(data, first, n, x, y);
    else
        rp_data_fill_eval(data, RP_SPLIT_VALID, (int64_t)first, n, x, y);
    fwrite(targets ? y : x, sizeof *x, (size_t)(n * (targets ? width : row)), stdout);
    rp_mem_free(x);
    rp_mem_free(y);
    rp_data_free(data);
    rp_spec_free(spec);
    rp_mem_free(err);
    return fflush(stdout) == 0 ? 0 : 1;
}
