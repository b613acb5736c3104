/* spec.h - the job spec: one YAML file, read by one schema table into this struct.
 *
 * Everything that the rest of the program may know of a spec is here, typed, with every default
 * filled in. Each part that a later folder may have to complain about carries its place. */
#ifndef RP_SPEC_H
#define RP_SPEC_H

#include "base/base.h"
#include "base/hash.h"
#include "base/mem.h"

enum {
    RP_SPEC_VERSION = 1,
    RP_SPEC_MAX_FILES = 1024,
    RP_SPEC_MAX_TRANSFORMS = 16,
    RP_SPEC_MAX_CHANNELS = 1024, /* of normalize; columns of a table too */
    RP_SPEC_MAX_IGNORE = 256,
    RP_SPEC_MAX_INDICATORS = 1024,
    RP_SPEC_MAX_SPANS = 8,
    RP_SPEC_MAX_HIDDEN = 64,
    RP_SPEC_NAME_BYTES = 41
};

/* Line and column (from 1, in characters) of a key or value; line 0: not in the file (a default or
 * --set). */
struct rp_spec_place {
    int line, column;
};

enum rp_tier { RP_TIER_PORTABLE, RP_TIER_PINNED, RP_TIER_FAST };

/* A length of training or time: "10k steps", "3 %", "10 min". */
enum rp_unit {
    RP_UNIT_NONE,
    RP_UNIT_STEPS,
    RP_UNIT_EPOCHS,
    RP_UNIT_SAMPLES,
    RP_UNIT_TOKENS,
    RP_UNIT_PERCENT,
    RP_UNIT_SECONDS
};
struct rp_span {
    double value;      /* whole for all but percent and seconds; exact below 2^53 */
    enum rp_unit unit; /* NONE: not given */
    struct rp_spec_place at;
};
struct rp_spans {
    struct rp_span item[RP_SPEC_MAX_SPANS];
    int n;
};

/* ---- data ---- */

enum rp_format {
    RP_FORMAT_NONE,
    RP_FORMAT_IDX,
    RP_FORMAT_CIFAR,
    RP_FORMAT_CSV,
    RP_FORMAT_NPY,
    RP_FORMAT_NPZ,
    RP_FORMAT_PACKED,
    RP_FORMAT_SYNTHETIC,
    RP_FORMAT_TEXT,
    RP_FORMAT_TOKENS,
    RP_FORMAT_JSONL
};
enum rp_synthetic {
    RP_SYNTHETIC_DIGITS,
    RP_SYNTHETIC_BLOBS,
    RP_SYNTHETIC_SPIRALS,
    RP_SYNTHETIC_MODULAR_ADDITION
};
/* Classification, regression, the next token at every place of a window. */
enum rp_target { RP_TARGET_CLASSES, RP_TARGET_VALUES, RP_TARGET_TOKENS };

struct rp_spec_file {
    char *path; /* as written */
    struct rp_spec_place at;
    bool has_sha256;
    struct rp_sha256 sha256;
};
struct rp_spec_dataset {
    enum rp_format format; /* NONE: not given */
    struct rp_spec_place at;
    /* idx: images, labels. cifar: the files in order. csv, npz, packed: one. npy: x, y.
     * text, tokens, jsonl: files and folders in order. */
    struct rp_spec_file files[RP_SPEC_MAX_FILES];
    int n_files;
    enum rp_target target; /* csv, npy, npz: `target: classes | values` */
    int cifar_classes;     /* cifar: 10 or 100 */
    char *csv_label;       /* csv: name of the label column */
    char csv_delimiter;
    char *csv_ignore[RP_SPEC_MAX_IGNORE]; /* csv: names of columns that are left out */
    int n_csv_ignore;
    char *csv_indicators[RP_SPEC_MAX_INDICATORS]; /* csv: "COLUMN=WORD", a feature each */
    int n_csv_indicators;
    char *npz_x, *npz_y;         /* npz: names of the arrays */
    enum rp_synthetic synthetic; /* synthetic: the task */
    int64_t synthetic_samples;
    int64_t synthetic_classes;  /* blobs, spirals */
    int64_t synthetic_features; /* blobs */
    double synthetic_noise;
    uint64_t synthetic_seed;
    int64_t synthetic_p; /* modular_addition */
    int token_bytes;     /* tokens: of a token in files without a header, 2 or 4 */
    int64_t vocab;       /* tokens: every token is below; 0: not given */
    char *tokenizer;     /* text, jsonl: a folder or file; NULL: a token is a byte */
    struct rp_spec_place tokenizer_at;
    char *jsonl_field, *jsonl_prompt, *jsonl_response; /* jsonl: the first, or the others */
};

enum rp_transform_kind {
    RP_TRANSFORM_NORMALIZE,
    RP_TRANSFORM_RANDOM_CROP,
    RP_TRANSFORM_RANDOM_FLIP,
    RP_TRANSFORM_RANDOM_RESIZED_CROP,
    RP_TRANSFORM_RANDOM_ROTATION,
    RP_TRANSFORM_COLOR_JITTER,
    RP_TRANSFORM_CUTOUT,
    RP_TRANSFORM_MIXUP, /* from here on: last in the list, they mix two samples */
    RP_TRANSFORM_CUTMIX
};
struct rp_spec_transform {
    enum rp_transform_kind kind;
    struct rp_spec_place at;
    float mean[RP_SPEC_MAX_CHANNELS],
        std[RP_SPEC_MAX_CHANNELS]; /* normalize: n_channels of them, 1 or one per channel */
    int n_channels;
    int padding; /* random_crop: zero padding on each side, crop back to the size */
    float p;     /* random_flip, cutout, mixup, cutmix: probability */
    float alpha; /* mixup, cutmix */
    int size[2]; /* cutout: [h, w] */
    /* What is drawn from: resized crop (part of the area, width / height), rotation (0: degrees),
     * jitter (factors of brightness, contrast, saturation; equal: off). */
    float low[3], high[3];
};

/* ---- model ---- */

enum rp_model_kind { RP_MODEL_SEQUENTIAL, RP_MODEL_MLP, RP_MODEL_RESNET, RP_MODEL_GPT };
enum rp_layer_kind {
    RP_LAYER_LINEAR,
    RP_LAYER_CONV2D,
    RP_LAYER_MAXPOOL2D,
    RP_LAYER_AVGPOOL2D,
    RP_LAYER_GLOBAL_AVGPOOL,
    RP_LAYER_RELU,
    RP_LAYER_GELU,
    RP_LAYER_GELU_TANH,
    RP_LAYER_SILU,
    RP_LAYER_SIGMOID,
    RP_LAYER_TANH,
    RP_LAYER_BATCH_NORM,
    RP_LAYER_LAYER_NORM,
    RP_LAYER_DROPOUT,
    RP_LAYER_FLATTEN,
    RP_LAYER_RESIDUAL
};
enum rp_init_kind { RP_INIT_KAIMING, RP_INIT_XAVIER, RP_INIT_NORMAL, RP_INIT_ZEROS };
struct rp_spec_init {
    enum rp_init_kind kind;
    float std; /* normal */
};
struct rp_spec_layers {
    struct rp_spec_layer *layer; /* owned */
    int n;
};
struct rp_spec_layer {
    enum rp_layer_kind kind;
    struct rp_spec_place at;
    int64_t out;                                  /* linear, conv2d */
    int kernel[2], stride[2], padding[2], groups; /* conv2d, pools; [h, w] */
    bool bias;                                    /* linear, conv2d */
    float p;                                      /* dropout */
    float eps, momentum;                          /* norms */
    struct rp_spec_init init;
    struct rp_spec_layers body, shortcut; /* residual; an empty shortcut is the identity */
};
enum rp_init_load { RP_INIT_LOAD_WEIGHTS, RP_INIT_LOAD_ALL };
enum rp_gpt_mlp { RP_GPT_MLP_GELU, RP_GPT_MLP_GELU_TANH, RP_GPT_MLP_SWIGLU };
enum rp_gpt_norm { RP_GPT_NORM_LAYER, RP_GPT_NORM_RMS };
enum rp_gpt_position { RP_GPT_POSITION_LEARNED, RP_GPT_POSITION_ROPE, RP_GPT_POSITION_NONE };
/* Every number is given here, whether by key, preset or default. */
struct rp_spec_gpt {
    int layers, heads, kv_heads;
    int64_t width, mlp_width;
    struct rp_spec_place vocab_at;
    enum rp_gpt_mlp mlp;
    enum rp_gpt_norm norm;
    float norm_eps;
    enum rp_gpt_position position;
    float rope_base;
    bool bias, tied, qk_norm;
    float dropout_attention, dropout_residual, dropout_embedding;
};
struct rp_spec_model {
    enum rp_model_kind kind;
    struct rp_spec_place at;
    struct rp_spec_layers layers;       /* sequential */
    int64_t hidden[RP_SPEC_MAX_HIDDEN]; /* mlp: widths of the hidden layers */
    int n_hidden;
    enum rp_layer_kind activation; /* mlp: RELU ... TANH */
    float dropout;                 /* mlp */
    int depth;                     /* resnet: 18 34 50 (imagenet stem or cifar), 20 32 56 (cifar) */
    bool cifar_stem;               /* resnet: 3x3 stride 1 stem, no pooling */
    int64_t context;               /* gpt: tokens of a window, which is a sample */
    int64_t vocab;                 /* gpt: rows of the embedding; 0: as the data says */
    struct rp_spec_gpt gpt;
    int64_t out; /* mlp, resnet: 0 = classes of the data (1 or the width of y for regression) */
    struct {
        bool given;
        struct rp_spec_place at;
        char *run, *path; /* one of them */
        char *checkpoint; /* at: best | last | STEP, as text */
        enum rp_init_load load;
        bool has_sha256;
        struct rp_sha256 sha256;
        char *skip[16]; /* patterns with a trailing * */
        struct rp_spec_place skip_at[16];
        int n_skip;
    } init_from;
    char *freeze[16]; /* patterns */
    struct rp_spec_place freeze_at[16];
    int n_freeze;
};

/* ---- train ---- */

enum rp_loss { RP_LOSS_CROSS_ENTROPY, RP_LOSS_MSE };
enum rp_optimizer {
    RP_OPTIMIZER_SGD,
    RP_OPTIMIZER_ADAM,
    RP_OPTIMIZER_ADAMW,
    RP_OPTIMIZER_LION,
    RP_OPTIMIZER_MUON /* of hidden matrices; adamw of the rest */
};
enum rp_muon_scale { RP_MUON_SPECTRAL, RP_MUON_RMS };
enum rp_schedule {
    RP_SCHEDULE_CONSTANT,
    RP_SCHEDULE_LINEAR,
    RP_SCHEDULE_COSINE,
    RP_SCHEDULE_STEP,
    RP_SCHEDULE_WSD
};
enum rp_decay { RP_DECAY_ALL, RP_DECAY_MATRICES }; /* matrices: leave out biases and norms */
enum rp_precision { RP_PRECISION_FP32, RP_PRECISION_TF32, RP_PRECISION_FP16, RP_PRECISION_BF16 };
enum rp_nonfinite { RP_NONFINITE_STOP, RP_NONFINITE_SKIP_STEP };
enum rp_recompute { RP_RECOMPUTE_NONE, RP_RECOMPUTE_BLOCK };

struct rp_spec_train {
    struct rp_span duration; /* for: */
    int64_t batch;
    struct rp_spec_place batch_at;
    int64_t shards; /* resolved: never 0 after load */
    struct rp_spec_place shards_at;
    int64_t micro_batch; /* 0: all of the rank's samples */
    struct rp_spec_place micro_batch_at;
    enum rp_recompute recompute;
    enum rp_precision precision;
    enum rp_loss loss;
    float label_smoothing;
    struct {
        enum rp_optimizer kind;
        double lr, momentum, dampening, beta1, beta2, eps,
            weight_decay; /* muon: adamw's betas, eps */
        bool nesterov;
        double adamw_lr; /* muon */
        enum rp_muon_scale scale;
        bool split;          /* muon */
        char *adamw_for[16]; /* patterns */
        struct rp_spec_place adamw_for_at[16];
        int n_adamw_for;
        enum rp_decay decay;
        char *no_decay[16]; /* patterns */
        struct rp_spec_place no_decay_at[16];
        int n_no_decay;
    } optimizer;
    struct {
        enum rp_schedule kind;
        struct rp_span warmup; /* NONE: none */
        double final_ratio;    /* linear, cosine, wsd: lr at the end / lr */
        struct rp_span every;  /* step: multiply by gamma every so often */
        double gamma;
        struct rp_span decay; /* wsd: length of the last phase */
    } schedule;
    double clip_norm; /* 0: off */
    double ema_decay; /* 0: no average of the weights */
    enum rp_nonfinite on_nonfinite;
};

/* ---- policy and place ---- */

struct rp_spec_eval {
    struct rp_spans every; /* empty: at the end only */
    struct {
        bool given;
        char *metric; /* "valid/loss", "valid/accuracy" */
        int64_t patience;
        double min_delta;
    } early_stop;
};
struct rp_spec_checkpoint {
    struct rp_spans every; /* steps, epochs, samples, %, seconds */
    int64_t keep_last;
    char *keep_best; /* metric, or NULL */
    struct rp_span keep_every;
};
struct rp_spec_resources {
    char *device;                      /* auto | cpu | cuda */
    char *comm;                        /* auto | shm | gloo | mpi | nccl */
    int64_t ranks, threads;            /* 0: auto */
    double timeout_peer, timeout_step; /* seconds; 0: auto */
};
enum rp_tracker_bits {
    RP_TRACKER_TENSORBOARD = 1,
    RP_TRACKER_MLFLOW = 2,
    RP_TRACKER_PROMETHEUS = 4
};
struct rp_spec_log {
    struct rp_span every;
    unsigned track; /* of rp_tracker_bits */
};

struct rp_spec {
    char *path;   /* as named; "-" is not a spec */
    char *folder; /* where relative paths start: of the spec as named, or --data */
    bool by_name; /* --data: a file that is not at its absolute path may be there by its name */
    char *bytes;  /* the file as given */
    size_t n_bytes;

    int version, numerics;
    char name[RP_SPEC_NAME_BYTES];
    uint64_t seed;
    enum rp_tier determinism;
    char *environment_lock; /* path or NULL */
    struct rp_spec_dataset train_data, valid_data, test_data;
    double valid_fraction; /* 0: none */
    struct rp_spec_transform transform[RP_SPEC_MAX_TRANSFORMS];
    int n_transforms;
    struct rp_spec_model model;
    struct rp_spec_train train;
    struct rp_spec_eval eval;
    struct rp_spec_checkpoint checkpoint;
    struct rp_spec_resources resources;
    struct rp_spec_log log;

    struct rp_spec_tree *tree; /* private to spec/: every value with its key path and place */
};

struct rp_spec_options {
    const char *data_folder; /* --data, or NULL */
    const char *const *set;  /* "train.optimizer.lr=3e-4", ...; NULL-terminated, or NULL */
};

/* Reads, checks and completes a spec. USAGE with all errors of the file in `err`, each with
 * file:line:column, the source line with a caret, what was expected. free with rp_spec_free. */
RP_NODISCARD enum rp_status rp_spec_load(const char *path, const struct rp_spec_options *options,
                                         struct rp_spec **spec, struct rp_error *err);
/* The same from bytes that are already in memory; `path` is only for messages and the folder. */
RP_NODISCARD enum rp_status rp_spec_parse(const char *path, const char *bytes, size_t n_bytes,
                                          const struct rp_spec_options *options,
                                          struct rp_spec **spec, struct rp_error *err);
void rp_spec_free(struct rp_spec *spec); /* NULL is fine */

/* ---- a site: what launch/ must know of a cluster --------------------------------------------- */

/* Read like a spec, by the table site_v1.def. All texts are NULL where the file has none. */

enum { RP_SITE_MAX_ITEMS = 64 };
enum rp_site_kind { RP_SITE_JOB, RP_SITE_JOBSET, RP_SITE_TRAINJOB };
struct rp_site_texts {
    const char *item[RP_SITE_MAX_ITEMS];
    int n;
};
struct rp_site_mount {
    const char *claim, *path;
};
struct rp_site {
    const char *path; /* of the file; NULL: there is none, and every fact is absent */
    struct {
        const char *partition, *account, *qos, *time, *mem, *gpus_type, *container;
        struct rp_site_texts sbatch, before;
        int64_t ranks_per_node, grace; /* 0: not given */
    } slurm;
    struct {
        const char *image, *namespace, *queue, *patch;
        struct rp_site_mount runs, data[RP_SITE_MAX_ITEMS];
        int n_data;
        struct rp_site_texts env_from;
        enum rp_site_kind kind;
        int64_t ranks_per_node, grace;
    } kubernetes;
    struct rp_arena *arena; /* private to spec/ */
};
/* `path` NULL: the first that there is of $REPRISE_SITE (which must be there when set),
 * ~/.config/reprise/site.yaml, /etc/reprise/site.yaml, and none is no failure. All mistakes at
 * once, as of a spec. free with rp_site_free. */
RP_NODISCARD enum rp_status rp_site_load(const char *path, struct rp_site **site,
                                         struct rp_error *err);
void rp_site_free(struct rp_site *site); /* NULL is fine */
/* The failure of a target that cannot do without "slurm.time": names the line to add. */
RP_NODISCARD enum rp_status rp_site_lacks(const struct rp_site *site, const char *key,
                                          struct rp_error *err);
/* A commented site file for "slurm" or "kubernetes". */
RP_NODISCARD enum rp_status rp_site_example(const char *target, struct rp_text *text,
                                            struct rp_error *err);

/* A failure that belongs to a place of the spec: the message in the same form as the parser's. */
RP_NODISCARD enum rp_status rp_spec_fail(const struct rp_spec *spec, struct rp_spec_place at,
                                         enum rp_status status, struct rp_error *err,
                                         const char *format, ...) RP_PRINTF(5, 6);

/* A path of the spec, from where it starts. With --data DIR an absolute path of nothing is the file
 * of that name in DIR, if it is there. Caller frees. */
char *rp_spec_path(const struct rp_spec *spec, const char *path);

/* The spec with every value present, in schema order; a spec with the same digests. `text` is added
 * to. */
void rp_spec_resolved(const struct rp_spec *spec, struct rp_text *text);

/* What enters a digest: one "path=value\n" a line, canonical, only values that differ from their
 * default; numbers as hex floats. Sections by the rules of DESIGN section 1. */
enum rp_section { RP_SECTION_NUMERIC, RP_SECTION_POLICY, RP_SECTION_PLACE };
void rp_spec_canonical(const struct rp_spec *spec, enum rp_section section, struct rp_text *text);
/* SHA-256 of the canonical text, data unbound. plan/ binds data and initial weights. */
struct rp_sha256 rp_spec_digest(const struct rp_spec *spec, enum rp_section section);

/* Keys that differ between two specs in any section, one line each: "train.optimizer.lr: 0.1 ->
 * 0.2". */
int rp_spec_differences(const struct rp_spec *a, const struct rp_spec *b, enum rp_section section,
                        struct rp_text *text);

/* Used by `explain`, `schema`, and the generators of docs. */
RP_NODISCARD enum rp_status rp_spec_explain(const char *key, struct rp_text *text,
                                            struct rp_error *err);
/* USAGE unless `key` is the whole path of a key ("train.optimizer.lr"). */
RP_NODISCARD enum rp_status rp_spec_check_key(const char *key, struct rp_error *err);
void rp_spec_json_schema(struct rp_text *text);
void rp_spec_reference(struct rp_text *text); /* specs/README.md */
/* A commented starting spec by name; NULL lists the names. */
RP_NODISCARD enum rp_status rp_spec_template(const char *name, struct rp_text *text,
                                             struct rp_error *err);

#endif
