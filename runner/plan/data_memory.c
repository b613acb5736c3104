/* data_memory.c - what a data set takes in memory, held and while it is read, from its shape and
 * the sizes of its files. */
#include "plan/plan_int.h"

#include "base/sys.h"

enum { CSV_WORD_BYTES = 24 }; /* of a label cell until classes have numbers (data/csv.c) */

/* 0 when the file is not here. */
static uint64_t file_bytes(const struct rp_spec *spec, const struct rp_spec_dataset *set, int i)
{
    struct rp_sys_stat stat = {0};
    if (i >= set->n_files) return 0;
    char *path = rp_spec_path(spec, set->files[i].path);
    if (rp_sys_stat(path, &stat, NULL) != RP_STATUS_OK) stat.size = 0;
    rp_mem_free(path);
    return stat.size;
}

/* Bytes of one number of x in memory: pictures that come as bytes stay bytes, the rest becomes
 * fp32. Arrays tell by the size of their file which they are. */
static uint64_t number_bytes(const struct rp_spec *spec, const struct rp_spec_dataset *set,
                             int64_t n_classes, uint64_t numbers)
{
    uint64_t size = file_bytes(spec, set, 0);
    switch (set->format) {
    case RP_FORMAT_IDX:
    case RP_FORMAT_CIFAR:
        return 1;
    case RP_FORMAT_TEXT:
    case RP_FORMAT_JSONL:
        return !set->tokenizer ? 1 : n_classes <= 1 << 16 ? 2 : 4;
    case RP_FORMAT_PACKED:
    case RP_FORMAT_TOKENS:
        return 0; /* mapped: the page cache, which the system takes back at will */
    case RP_FORMAT_SYNTHETIC:
        if (set->synthetic == RP_SYNTHETIC_MODULAR_ADDITION) return 3; /* 4 of 2 bytes, 3 seen */
        return set->synthetic == RP_SYNTHETIC_DIGITS ? 1 : 4;
    case RP_FORMAT_NPY:
    case RP_FORMAT_NPZ:
        return size > 0 && size < numbers + numbers / 5 ? 1 : 4;
    case RP_FORMAT_CSV:
    case RP_FORMAT_NONE:
        break;
    }
    return 4;
}

/* Text that is held while it becomes tokens: of files that are small, many (data/encode.c). What
 * lies in a folder is not looked at. */
static uint64_t encoding_bytes(const struct rp_spec *spec, const struct rp_spec_dataset *set)
{
    enum { AT_ONCE = 1 << 28 };
    uint64_t most = 0, all = 0;
    for (int i = 0; i < set->n_files; i++) {
        uint64_t bytes = file_bytes(spec, set, i);
        if (bytes > most) most = bytes;
        all += bytes;
    }
    return all > AT_ONCE + most ? AT_ONCE + most : all;
}

/* Adds a data set of n samples of `row` numbers, and what its reader holds beside it for a while.
 */
static void add_set(const struct rp_spec *spec, const struct rp_spec_dataset *set,
                    int64_t n_classes, uint64_t n, uint64_t row, uint64_t y_bytes,
                    struct rp_plan_data_memory *memory)
{
    uint64_t bytes = n * (row * number_bytes(spec, set, n_classes, n * row) + y_bytes), reading = 0;
    if (set->format == RP_FORMAT_JSONL || set->tokenizer) reading = encoding_bytes(spec, set);
    if (set->jsonl_prompt) bytes += n * row / 4; /* which tokens are targets (data/tokens.h) */
    if (set->format == RP_FORMAT_CSV) reading = file_bytes(spec, set, 0) + n * CSV_WORD_BYTES;
    if (set->format == RP_FORMAT_NPZ) reading = file_bytes(spec, set, 0);
    memory->held += bytes;
    if (memory->held + reading > memory->most) memory->most = memory->held + reading;
}

struct rp_plan_data_memory rp_plan_data_memory(const struct rp_plan *plan,
                                               const struct rp_spec *spec)
{
    struct rp_plan_data_memory memory = {0};
    const struct rp_data_shape *data = &plan->data;
    uint64_t n_train = (uint64_t)data->n_train, row = 1;
    uint64_t n_valid = data->n_valid > 0 ? (uint64_t)data->n_valid : 0;
    uint64_t y = data->target == RP_TARGET_TOKENS    ? 0
                 : data->target == RP_TARGET_CLASSES ? sizeof(int32_t)
                                                     : (uint64_t)data->n_values * sizeof(float);
    bool has_index = data->target != RP_TARGET_TOKENS || /* stretches of a run need no list */
                     spec->train_data.format == RP_FORMAT_SYNTHETIC;
    for (int i = 0; i < data->n_dims; i++) row *= (uint64_t)data->dims[i];
    if (spec->valid_data.format != RP_FORMAT_NONE) {
        add_set(spec, &spec->train_data, data->n_classes, n_train, row, y, &memory);
        add_set(spec, &spec->valid_data, data->n_classes, n_valid, row, y, &memory);
        return memory;
    }
    add_set(spec, &spec->train_data, data->n_classes, n_train + n_valid, row, y, &memory);
    if (n_valid > 0 && has_index)
        memory.held += (n_train + n_valid) * sizeof(uint32_t); /* which is which */
    if (memory.held > memory.most) memory.most = memory.held;
    return memory;
}
