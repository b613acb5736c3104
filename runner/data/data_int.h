/* data_int.h - private to runner/data: a data set in memory, its readers, and the compiled
 * transforms. */
#ifndef RP_DATA_INT_H
#define RP_DATA_INT_H

#include "data/data.h"

enum { RP_DATA_MAX_CHANNELS = 16, RP_DATA_MAX_CLASSES = 1 << 20 };

/* ---- a data set in memory -------------------------------------------------------------------- */

/* n samples, each a dense row-major block of dims; u8 where the source is u8 (its value is x/255),
 * else f32. Every array is owned; release is safe twice. */
struct rp_data_set {
    int n_dims;
    int64_t dims[3];
    int64_t n;   /* samples; -1: not known from the headers alone */
    int64_t row; /* elements of one sample */
    bool is_u8;
    uint8_t *u8; /* (n, dims...) or NULL */
    float *f32;  /* (n, dims...) or NULL */
    enum rp_target target;
    int64_t n_classes;  /* classes: highest label + 1, or as the format says; -1: not known */
    int64_t n_values;   /* values: width of y */
    int32_t *labels;    /* (n) */
    float *values;      /* (n, n_values) */
    char **class_names; /* (n_classes) or NULL */
    void *map;          /* packed: the file, in which u8 lies then; NULL: u8 is owned */
    uint64_t map_bytes;
    char **columns;                /* (row) names of the features, or NULL */
    struct rp_data_tokens *tokens; /* target TOKENS: what windows are cut from, else NULL; n counts
                                    * windows as evaluation does, row is the context */
};
void rp_data_set_release(struct rp_data_set *set);
/* Sets the shape of a sample and row; n_dims 1 or 3. */
void rp_data_set_shape(struct rp_data_set *set, int n_dims, int64_t h, int64_t w, int64_t c);

/* One data set of the spec on its way into memory: what a reader needs, and what it reports to. */
struct rp_data_source {
    const struct rp_spec *spec;
    const struct rp_spec_dataset *dataset;
    const char *key;                       /* "data.train" */
    const struct rp_data_options *options; /* NULL when only describing */
    bool describe;              /* headers and labels only: x is neither read nor allocated */
    bool deep;                  /* describe: csv reads the whole text */
    struct rp_data_file *files; /* files found so far, appended to; owned by rp_data */
    int n_files;
    const char *const *class_names; /* csv: words that already have a number (of train), or NULL */
    int64_t n_class_names;
    const char *const *columns;  /* csv: the features wanted, NULL-terminated, or NULL: all */
    bool without_targets;        /* labels and values are not read and may be missing */
    struct rp_spec_file *listed; /* files, those in folders included (listing.c); NULL: as in the
                                  * data set. Owned, as is each path */
    int n_listed;
    int64_t vocab; /* tokens: the model, or data.train, knows so many; 0: not known */
};
/* File `index` of the source: its path as messages name it, its place in the spec, its hash. */
const struct rp_spec_file *rp_data_source_file(const struct rp_data_source *source, int index);

/* A failure of file `index` of the source: "path: message", at the file's place in the spec, status
 * DATA. */
RP_NODISCARD enum rp_status rp_data_fail(const struct rp_data_source *source, int index,
                                         struct rp_error *err, const char *format, ...)
    RP_PRINTF(4, 5);

/* Readers, one per format: fill a zeroed set, or leave it releasable. */
RP_NODISCARD enum rp_status rp_data_read_idx(struct rp_data_source *source, struct rp_data_set *set,
                                             struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_cifar(struct rp_data_source *source,
                                               struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_csv(struct rp_data_source *source, struct rp_data_set *set,
                                             struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_npy(struct rp_data_source *source, struct rp_data_set *set,
                                             struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_npz(struct rp_data_source *source, struct rp_data_set *set,
                                             struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_packed(struct rp_data_source *source,
                                                struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_text(struct rp_data_source *source,
                                              struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_tokens(struct rp_data_source *source,
                                                struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_read_jsonl(struct rp_data_source *source,
                                               struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_make_synthetic(struct rp_data_source *source,
                                                   struct rp_data_set *set, struct rp_error *err);

/* Allocate the arrays of a set whose shape, n and target are known; MEMORY, in words, when they do
 * not fit. `index`: the file to name, -1 for a set without files. */
RP_NODISCARD enum rp_status rp_data_allocate_x(const struct rp_data_source *source, int index,
                                               struct rp_data_set *set, struct rp_error *err);
RP_NODISCARD enum rp_status rp_data_allocate_y(const struct rp_data_source *source, int index,
                                               struct rp_data_set *set, struct rp_error *err);

/* ---- made samples and chosen samples --------------------------------------------------------- */

/* One digit of 28 x 28 pixels, white on black, for sample number `sample` (digits.c); returns its
 * class. */
int rp_data_draw_digit(uint64_t seed, uint64_t sample, float noise, uint8_t pixels[28 * 28]);

/* The samples at positions position, position + 1, ... of the training order: (count), each below
 * n. */
void rp_data_order(uint64_t seed, uint64_t n, uint64_t position, int64_t count, uint64_t *samples);

/* The samples of valid.fraction: `n_valid` of n, chosen by the tail of perm(seed, split). Both
 * lists are in file order. train (n - n_valid), valid (n_valid). */
void rp_data_split(uint64_t seed, int64_t n, int64_t n_valid, uint32_t *train, uint32_t *valid);

/* ---- transforms ------------------------------------------------------------------------------ */

/* One item of data.transform with its numbers, for lists that have more than crops and flips. */
struct rp_data_step {
    enum rp_transform_kind kind;
    int n_channels, padding, size[2];
    float p;
    /* normalize: mean, std per channel; else ranges to draw from: resized crop (area, ratio),
     * rotation (-, degrees), jitter (brightness, contrast, saturation). */
    float low[RP_DATA_MAX_CHANNELS], high[RP_DATA_MAX_CHANNELS];
};
/* A whole number in [0, n), every value as likely up to n / 2^32. */
int64_t rp_data_word_below(uint32_t word, int64_t n);

/* mixup or cutmix. */
struct rp_data_mix {
    enum rp_transform_kind kind;
    uint32_t site; /* its place in the list of the spec */
    float alpha, p;
};

/* What the random words of a training sample depend on. */
struct rp_data_key {
    uint64_t seed, position;
    uint32_t block; /* 0; 1: of the sample that is mixed into the one at this position */
};

/* A random transform, with the value that a pixel from outside the image has after the list's end.
 */
struct rp_data_geometry {
    enum rp_transform_kind kind; /* RANDOM_CROP or RANDOM_FLIP */
    uint32_t site;               /* its place in the list of the spec */
    int64_t padding;
    float p;
    float outside[RP_DATA_MAX_CHANNELS];
};
/* The list of the spec made ready for one shape. Everything elementwise is folded into `table` for
 * u8 sources (the very same float operations, done once per byte value), and done once at opening
 * for f32 sources; what is left per sample are the geometric ones. */
struct rp_data_transforms {
    int64_t channels; /* 1 when one table serves all */
    struct rp_data_geometry geometry[RP_SPEC_MAX_TRANSFORMS];
    int n_geometry;
    float table[RP_DATA_MAX_CHANNELS][256];
    /* With any other kind in it the list runs step by step (augment.c), and sets of f32 stay as
     * they are in the file. */
    bool stepwise;
    struct rp_data_step step[RP_SPEC_MAX_TRANSFORMS];
    int n_steps;
    struct rp_data_mix mix[RP_SPEC_MAX_TRANSFORMS]; /* one of them is drawn (mix.c) */
    int n_mixes;
};
/* Checks the list against the shape of the set: USAGE at the transform's place. */
RP_NODISCARD enum rp_status rp_data_transforms_check(const struct rp_spec *spec,
                                                     const struct rp_data_set *set,
                                                     struct rp_error *err);
void rp_data_transforms_init(struct rp_data_transforms *transforms, const struct rp_spec *spec,
                             const struct rp_data_set *set);
/* The fixed transforms in place, for a set of f32. */
void rp_data_transforms_apply(const struct rp_spec *spec, struct rp_data_set *set);
/* Sample `sample` of the set, fixed transforms only: out (dims...). */
void rp_data_sample_fixed(const struct rp_data_transforms *transforms,
                          const struct rp_data_set *set, int64_t sample, float *out);
/* Sample `sample` as it appears with a key, not yet mixed: out (dims...). `room` (dims...) when the
 * list is stepwise, else NULL. */
void rp_data_sample_random(const struct rp_data_transforms *transforms,
                           const struct rp_data_set *set, int64_t sample,
                           const struct rp_data_key *key, float *room, float *out);
void rp_data_augment(const struct rp_data_transforms *transforms, const struct rp_data_set *set,
                     int64_t sample, const struct rp_data_key *key, float *room, float *out);
/* Mixes the training sample of `key`, x (dims...), with another one where that is drawn. target
 * (3): its class, the other's, the weight of its own in 2^-24. room (2, dims...). */
struct rp_data;
void rp_data_mix(const struct rp_data *data, int64_t sample, const struct rp_data_key *key,
                 float *room, float *x, int32_t *target);

/* ---- an open data set ------------------------------------------------------------------------ */

struct rp_data {
    uint64_t seed;
    struct rp_data_shape shape;
    struct rp_data_set train, valid, test; /* n == 0: absent */
    int64_t train_tokens; /* windows: of the tokens of `train` the first so many are trained on */
    bool split;           /* train and valid are both part of `train` */
    uint32_t *train_index, *valid_index; /* split: sample numbers in file order */
    struct rp_data_transforms transforms;
    struct rp_data_file *files;
    int n_files;
};

#endif
