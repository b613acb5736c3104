#include "data/data_int.h"
#define STUB(name)                                                                                 \
    enum rp_status name(struct rp_data_source *source, struct rp_data_set *set,                    \
                        struct rp_error *err)                                                      \
    {                                                                                              \
        (void)source;                                                                              \
        (void)set;                                                                                 \
        return rp_error_set(err, RP_STATUS_INTERNAL, #name ": not built yet");                     \
    }
STUB(rp_data_read_idx)
STUB(rp_data_read_cifar)
STUB(rp_data_read_csv)
STUB(rp_data_read_npy)
STUB(rp_data_read_npz)
