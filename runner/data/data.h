/* data.h - samples as pure functions of position: open a data set, fill a batch, prefetch.
 *
 * A position p (64 bits) is step * batch + slot; epoch = p div N; the sample is perm(seed, epoch)(p
 * mod N). There is no loader state: the cursor is the step (DESIGN 1.1). */
#ifndef RP_DATA_H
#define RP_DATA_H

#include "base/stop.h"
#include "data/bpe.h"
#include "data/tokenize.h"
#include "spec/spec.h"

enum rp_split { RP_SPLIT_TRAIN, RP_SPLIT_VALID, RP_SPLIT_TEST };

/* The shape of a data set; all that model/ and plan/ need. */
struct rp_data_shape {
    /* Of one sample: 3 (H, W, C) for images, 1 (features) for rows, 1 (context) for windows of
     * tokens, model.context long. */
    int n_dims;
    int64_t dims[3];
    enum rp_target target;
    int64_t n_classes;        /* classification; tokens: size of the vocabulary, or -1 */
    int64_t n_values;         /* regression: width of y */
    int64_t n_train, n_valid; /* samples in each split, after valid.fraction; tokens: windows of
                               * an epoch, and of an evaluation */
    bool mapped; /* training samples stay in files, and are read as they are asked for */
    bool mixes;  /* training targets are two classes and a weight: mixup, cutmix */
};

/* One file as found: for the manifest, the lock, and the numeric digest (hash and size only). */
struct rp_data_file {
    char *key;  /* "data.train.images" */
    char *path; /* absolute */
    uint64_t size, inode;
    int64_t mtime_ns; /* with size and inode: taken before the file was read */
    struct rp_sha256 sha256;
};

struct rp_data;

/* Reads headers only (whole text for csv when `deep`): enough for `validate` and `plan`. Any
 * mismatch is an error at its line of the spec. csv without `deep` leaves n_classes, n_train,
 * n_valid at -1; what needs a tokenizer n_train and n_valid. */
RP_NODISCARD enum rp_status rp_data_describe(const struct rp_spec *spec, bool deep,
                                             struct rp_data_shape *shape, struct rp_error *err);

/* Known hashes of earlier starts (from the manifest): a file whose size, mtime and inode still
 * agree is not hashed again. Not owned. */
struct rp_data_known {
    const char *path;
    uint64_t size, inode;
    int64_t mtime_ns;
    struct rp_sha256 sha256;
};
struct rp_data_options {
    const struct rp_data_known *known;
    int n_known;
    bool rehash;
    bool with_test; /* also open data.test; only `eval --split test` does */
    void (*progress)(const char *what, double fraction); /* NULL: none */
    const struct rp_stop *stop;                          /* NULL: never */
};
/* Loads train and valid into memory, hashes every file, checks sha256 keys. free with rp_data_free.
 */
RP_NODISCARD enum rp_status rp_data_open(const struct rp_spec *spec,
                                         const struct rp_data_options *options,
                                         struct rp_data **data, struct rp_error *err);
void rp_data_free(struct rp_data *data); /* NULL is fine */

/* One data set alone, for a finished model: its samples become the split TEST. */
struct rp_data_like {
    struct rp_data_shape shape;     /* of what the model was trained on; its samples do not count */
    const char *const *class_names; /* csv: (n_classes) the words that have a number, or NULL */
    const char *const *columns; /* csv: the features in order, NULL-terminated, or NULL; found by
                                 * name, other columns are left out */
    bool without_targets;       /* targets are not read; where the format allows it they may be
                                 * missing */
};
/* DATA when it does not look like `like`. `key` ("data.test") names it in messages and files. */
RP_NODISCARD enum rp_status rp_data_open_alone(const struct rp_spec *spec, const char *key,
                                               const struct rp_spec_dataset *dataset,
                                               const struct rp_data_like *like,
                                               const struct rp_data_options *options,
                                               struct rp_data **data, struct rp_error *err);
/* Samples of a split as evaluation counts them: rp_data_fill_eval takes those from 0 to there. */
int64_t rp_data_samples(const struct rp_data *data, enum rp_split split);
const struct rp_data_shape *rp_data_shape(const struct rp_data *data);
int rp_data_files(const struct rp_data *data, const struct rp_data_file **files);
/* Class names in order, (n_classes), or NULL: csv has them, the distinct texts of its label column
 * in bytewise order, whether words or numbers ("10" comes before "2"). */
const char *const *rp_data_class_names(const struct rp_data *data);
/* Names of the features in order, as many as a sample has numbers, or NULL: csv has them. */
const char *const *rp_data_columns(const struct rp_data *data);
/* What enters the numeric digest: one line per file (key, size, sha256), and per synthetic set
 * nothing. Files of data.valid only when `valid_counts`: without early stopping they change no bit.
 */
void rp_data_canonical(const struct rp_data *data, bool valid_counts, struct rp_text *text);

/* Samples of positions [position, position + n) of the training order, transformed:
 * x (n, dims...) f32, y (n) i32 class or (n, n_values) f32; where the shape says `mixes` y is (n,
 * 3) i32: class a, class b, weight of a in 2^-24; of tokens x, y (n, context) i32, y -1 where there
 * is no target. Thread-safe, pure. */
void rp_data_fill_train(const struct rp_data *data, uint64_t position, int64_t n, void *x, void *y);
/* Samples [first, first + n) of a split in file order, with the fixed transforms only. Of tokens
 * every target once; the last window is filled up with tokens 0 and targets -1. */
void rp_data_fill_eval(const struct rp_data *data, enum rp_split split, int64_t first, int64_t n,
                       void *x, void *y);
/* Numbers whose losses the mean loss of positions [position, position + n) is over: classes n,
 * values n n_values, tokens the targets that count. Pure; may be 0 for tokens. */
int64_t rp_data_loss_values(const struct rp_data *data, uint64_t position, int64_t n);
/* Bytes of text that the targets of an evaluation of the split stand for; 0: not known. */
int64_t rp_data_target_bytes(const struct rp_data *data, enum rp_split split);

/* ---- data that nobody has described yet: for `init` ------------------------------------------ */

/* What a few files are, as far as their bytes tell. */
struct rp_data_look {
    enum rp_format format;
    char *path[RP_SPEC_MAX_FILES]; /* of data.train, in the order of the spec's keys */
    int n_paths;
    char *test[RP_SPEC_MAX_FILES]; /* a second set, to be tested on */
    int n_test;
    char *valid[RP_SPEC_MAX_FILES]; /* a set to evaluate on */
    int n_valid;
    enum rp_target target;
    int cifar_classes;
    char delimiter; /* csv */
    char *label;    /* csv: the column to predict */
    char **ignore;  /* csv: columns to leave out */
    int n_ignore;
    char **indicators; /* csv: "COLUMN=WORD" for each word of a column of few words */
    int n_indicators;
    char *x, *y;                     /* npz: names of the arrays */
    bool is_folder;                  /* text: the path is a folder */
    int token_bytes;                 /* tokens: 2 or 4; 0: their headers say it */
    int64_t vocab;                   /* tokens */
    char *field, *prompt, *response; /* jsonl: the first, or the others */
    struct rp_text notes;            /* a line for each choice that was made, and by which rule */
};
/* `paths`: files, or one folder of files. `label`: a column of a csv to predict, or NULL. DATA when
 * they are nothing that can be read; USAGE when it cannot be told how they belong together. Release
 * in every case. */
RP_NODISCARD enum rp_status rp_data_look(const char *const *paths, int n, const char *label,
                                         struct rp_data_look *look, struct rp_error *err);
void rp_data_look_release(struct rp_data_look *look);

/* Mean and standard deviation of the inputs of data.train (valid.fraction included) before any
 * transform, per channel of images, per column of rows; of bytes those of x/255. fp64, in file
 * order. `mean`, `std`: room for `most` channels; returns how many there are, or 1 and the values
 * over all elements when there are more. */
int64_t rp_data_measure(const struct rp_data *data, int64_t most, double *mean, double *std);
/* The same of the target values of a regression, taken as one column. */
void rp_data_measure_values(const struct rp_data *data, double *mean, double *std);

/* ---- images to one packed file: for `pack` --------------------------------------------------- */

/* Has the folder a subfolder with a PNG or JPEG in it? */
bool rp_data_is_image_folder(const char *path);
/* ... or lies one in it? */
bool rp_data_holds_images(const char *path);

enum rp_pack_channels { RP_PACK_AUTO, RP_PACK_GREY, RP_PACK_COLOUR }; /* auto: as the images are */
struct rp_pack_options {
    const char *folder, *out; /* out is replaced when it is there, all or nothing */
    int64_t height, width;    /* 0: the medians of the images, at most 64 */
    enum rp_pack_channels channels;
    bool stretch;     /* to the shape of the result; else what sticks out of it is cut off */
    bool skip_broken; /* leave out what does not decode; else it is an error */
    int threads;
    void (*progress)(int64_t done, int64_t total); /* NULL: none */
    const struct rp_stop *stop;                    /* then nothing is written; NULL: never */
};
struct rp_pack_result {
    int64_t n, n_classes, height, width, channels;
    int64_t n_broken, n_other; /* images that do not decode; files of other kinds, passed over */
    struct rp_text broken;     /* "path: why" a line */
    uint64_t bytes;
    struct rp_sha256 sha256; /* of the file */
};
/* Decodes, resizes and writes every image. The bytes depend on the images alone. DATA when some do
 * not decode; ENVIRONMENT when there is no module to decode with. Release in every case. */
RP_NODISCARD enum rp_status rp_data_pack(const struct rp_pack_options *options,
                                         struct rp_pack_result *result, struct rp_error *err);
void rp_pack_result_release(struct rp_pack_result *result);

/* Prefetch: `threads` threads (1 to `depth`) fill the next `depth` batches ahead of the step, a
 * batch each. Positions that follow the pattern of those before (a stride, or passes of a step and
 * a jump) come at once; any other costs one filling. */
struct rp_loader;
RP_NODISCARD enum rp_status rp_loader_open(const struct rp_data *data, int64_t n_samples, int depth,
                                           int threads, struct rp_loader **loader,
                                           struct rp_error *err);
/* The memory that every batch lies in. */
void *rp_loader_block(const struct rp_loader *loader, size_t *bytes);
/* The batch at `position` (n_samples of them); x and y stay valid until the next call. */
void rp_loader_take(struct rp_loader *loader, uint64_t position, const void **x, const void **y);
void rp_loader_close(struct rp_loader *loader); /* NULL is fine */
uint64_t rp_loader_bytes(const struct rp_data_shape *shape, int64_t n_samples,
                         int depth); /* for plan */

#endif
