/* npy.h - private to runner/data: NumPy arrays, as files of their own (npy.c) or packed in one
 * (npz.c). */
#ifndef RP_DATA_NPY_H
#define RP_DATA_NPY_H

#include "data/stream.h"

enum { NPY_MAX_DIMS = 4 };

/* Where the bytes of one array come from: a file, or memory. `name` is for messages ("" or "x.npy:
 * "). */
struct npy_input {
    struct rp_data_source *source;
    int index;
    struct rp_data_stream *stream; /* NULL: memory */
    const unsigned char *at, *end;
    const char *name;
};
struct npy_array {
    char kind; /* 'u', 'i', 'f' */
    int width; /* bytes of an element */
    int n_dims;
    int64_t dims[NPY_MAX_DIMS];
    int64_t n_elements;
};

/* Reads the header of an array and checks that the data behind it has the size that it says. */
RP_NODISCARD enum rp_status npy_read_header(struct npy_input *input, struct npy_array *array,
                                            struct rp_error *err);
/* x: (n), (n, features), (n, h, w) or (n, h, w, c); sets shape, n, is_u8, and unless the source
 * only describes, reads the values. */
RP_NODISCARD enum rp_status npy_read_x(struct npy_input *input, struct rp_data_set *set,
                                       struct rp_error *err);
/* y: classes (n) of whole numbers, or values (n) or (n, width). */
RP_NODISCARD enum rp_status npy_read_y(struct npy_input *input, struct rp_data_set *set,
                                       struct rp_error *err);

/* What an .npz holds, from the archive's directory and the header of each array. */
struct npz_entry {
    char *name;
    struct npy_array array;
};
enum { NPZ_MAX_ENTRIES = 64 };
RP_NODISCARD enum rp_status npz_list(struct rp_data_source *source,
                                     struct npz_entry entry[NPZ_MAX_ENTRIES], int *n,
                                     struct rp_error *err);

#endif
