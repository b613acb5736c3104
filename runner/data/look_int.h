/* look_int.h - private to runner/data: the parts of rp_data_look. */
#ifndef RP_DATA_LOOK_INT_H
#define RP_DATA_LOOK_INT_H

#include "data/npy.h"

/* Files read before there is a spec: a source whose messages begin with the path alone. */
struct look_source {
    struct rp_spec spec;
    struct rp_spec_dataset dataset;
    struct rp_data_source source;
};
struct look_source *look_source_new(const char *const *paths, int n);
void look_source_free(struct look_source *source); /* NULL is fine */

enum look_kind {
    LOOK_KIND_UNKNOWN,
    LOOK_KIND_IDX,
    LOOK_KIND_NPY,
    LOOK_KIND_NPZ,
    LOOK_KIND_CIFAR,
    LOOK_KIND_PACKED,
    LOOK_KIND_CSV,
    LOOK_KIND_TEXT,
    LOOK_KIND_JSONL,
    LOOK_KIND_TOKENS
};

/* One file, as far as its first bytes tell. */
struct look_file {
    const char *path;
    enum look_kind kind;
    int n_dims; /* idx */
    int64_t n;  /* idx: the first dimension */
    int cifar_classes;
};
RP_NODISCARD enum rp_status look_at_file(const char *path, struct look_file *file,
                                         struct rp_error *err);
const char *look_name_of(const char *path); /* what stands behind the last slash */
/* Something before `ending`, and then that; case does not count. */
bool look_ends_with(const char *path, const char *ending);

/* A csv text: its delimiter, which column is the label, which ones are left out. */
RP_NODISCARD enum rp_status look_at_csv(const char *path, const char *label,
                                        struct rp_data_look *look, struct rp_error *err);

/* Texts, JSON lines, token files (look_text.c): which of them are for evaluation, by their names,
 * and how they are read. */
RP_NODISCARD enum rp_status look_at_texts(const char *const *paths, int n,
                                          struct rp_data_look *look, struct rp_error *err);
RP_NODISCARD enum rp_status look_at_jsonl(const char *const *paths, int n,
                                          struct rp_data_look *look, struct rp_error *err);
RP_NODISCARD enum rp_status look_at_tokens(const char *const *paths, int n,
                                           struct rp_data_look *look, struct rp_error *err);
/* Bytes of a token when these begin with a header of llm.c; 0: they do not. */
int look_token_header(const unsigned char *bytes, size_t n);
void look_part_files(const char *const *paths, int n, struct rp_data_look *look);

#endif
