/* export.c - a checkpoint for other programs: its tensors in one file, or a folder of transformers.
 */
#include "base/mem.h"
#include "base/sys.h"
#include "train/huggingface.h"
#include "train/start_int.h"
#include "train/tokenizer.h"

#include <stdio.h>
#include <string.h>

struct exporter {
    const struct rp_export_options *options;
    struct rp_manifest manifest;
    struct rp_spec *spec;
    struct rp_checkpoint checkpoint;
    struct rp_st_tensor *tensor; /* (n) of the checkpoint, data not owned */
    int n;
    struct rp_bpe *tokenizer; /* NULL: none */
};

/* ---- the place that is written to: all or nothing -------------------------------------------- */

static enum rp_status check_out(const char *out, bool folder, struct rp_error *err)
{
    struct rp_sys_stat stat;
    char **names = NULL;
    RP_TRY(rp_sys_stat(out, &stat, err));
    if (!stat.exists) return RP_STATUS_OK;
    bool empty = false;
    if (folder && stat.is_folder) {
        RP_TRY(rp_sys_list(out, &names, err));
        empty = !names[0];
        rp_sys_free_names(names);
    }
    if (empty) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "--out %s exists already; choose another name", out);
}

static enum rp_status make_parent(const char *out, struct rp_error *err)
{
    char *parent = rp_sys_folder_of(out);
    enum rp_status status = rp_sys_make_folder(parent, err);
    rp_mem_free(parent);
    return status;
}

/* ---- which values ---------------------------------------------------------------------------- */

/* With train.ema the averages, as for all that applies the model; a frozen tensor has none. */
static void list_tensors(struct exporter *e)
{
    const struct rp_st_file *model = &e->checkpoint.model;
    e->tensor = RP_NEW_ARRAY(struct rp_st_tensor, model->n + 1);
    e->n = model->n;
    for (int i = 0; i < e->n; i++) {
        const struct rp_st_tensor *average = NULL;
        char *name = rp_mem_text("%s.ema", model->tensor[i].name);
        if (e->spec->train.ema_decay > 0) average = rp_st_find(&e->checkpoint.optimizer, name);
        e->tensor[i] = model->tensor[i];
        if (average) e->tensor[i].shape.data = average->shape.data;
        rp_mem_free(name);
    }
}

/* ---- what is written ------------------------------------------------------------------------- */

static enum rp_status write_tensors(const struct exporter *e, const char *path,
                                    struct rp_error *err)
{
    char step[24];
    snprintf(step, sizeof step, "%llu", (unsigned long long)e->checkpoint.state.step);
    const char *const metadata[] = {"format", "pt", "writer", "reprise", "step", step, NULL};
    return rp_st_write(path, e->tensor, e->n, NULL, metadata, NULL, NULL, err);
}

static enum rp_status write_folder(const struct exporter *e, const char *folder,
                                   struct rp_error *err)
{
    const struct rp_st_tensor *table = rp_st_find(&e->checkpoint.model, "wte.weight");
    enum rp_hf_kind kind;
    if (!table)
        return rp_error_set(err, RP_STATUS_NO_CHECKPOINT, "%s: the checkpoint has no wte.weight",
                            e->options->run);
    struct rp_hf_shape shape = rp_hf_shape_of(e->spec, table->shape.dims[0]);
    RP_TRY(rp_hf_choose(&shape, &kind, err));
    RP_TRY(rp_sys_make_folder(folder, err));
    RP_TRY(rp_hf_write(folder, kind, &shape, e->tensor, e->n,
                       rp_tokenizer_end_of_text(e->spec, e->tokenizer), err));
    if (!e->tokenizer) return RP_STATUS_OK;
    return rp_tokenizer_copy(e->tokenizer, folder, shape.context, err);
}

static enum rp_status write_out(const struct exporter *e, struct rp_error *err)
{
    const char *out = e->options->out;
    bool folder = e->options->form == RP_EXPORT_HUGGINGFACE;
    char *part = rp_mem_text("%s.part", out);
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, make_parent(out, err), out);
    RP_TRY_GOTO(status, rp_sys_remove(part, err), out);
    status = folder ? write_folder(e, part, err) : write_tensors(e, part, err);
    if (status == RP_STATUS_OK) status = rp_sys_rename(part, out, err);
    if (status != RP_STATUS_OK) {
        enum rp_status removal = rp_sys_remove(part, NULL);
        (void)removal;
    }
out:
    rp_mem_free(part);
    return status;
}

/* ---- from a run ------------------------------------------------------------------------------ */

static enum rp_status open_run(struct exporter *e, struct rp_error *err)
{
    const struct rp_export_options *o = e->options;
    bool found = false;
    uint64_t step = 0;
    RP_TRY(rp_manifest_read(o->run, &found, &e->manifest, err));
    if (!found)
        return rp_error_set(err, RP_STATUS_USAGE, "%s holds no run (no manifest.json)", o->run);
    RP_TRY(rp_train_load_spec(o->run, &e->manifest, NULL, NULL, &e->spec, err));
    if (o->form == RP_EXPORT_HUGGINGFACE) {
        if (e->spec->model.kind != RP_MODEL_GPT)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s is no language model (`kind: gpt`); `--to safetensors` writes "
                                "its tensors",
                                o->run);
        RP_TRY(rp_tokenizer_open(e->spec, o->tokenizer, &e->tokenizer, err));
    }
    RP_TRY(rp_train_pick_step(o->run, o->at, &step, err));
    RP_TRY(rp_checkpoint_load(o->run, step, &found, &e->checkpoint, err));
    if (found) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                        "%s holds no checkpoint yet; `reprise show %s` says why", o->run, o->run);
}

enum rp_status rp_train_export(const struct rp_export_options *options,
                               struct rp_export_result *result, struct rp_error *err)
{
    struct exporter e = {.options = options, .manifest.segment = -1};
    bool folder = options->form == RP_EXPORT_HUGGINGFACE;
    enum rp_status status = RP_STATUS_OK;
    *result = (struct rp_export_result){0};
    RP_TRY_GOTO(status, check_out(options->out, folder, err), out);
    RP_TRY_GOTO(status, open_run(&e, err), out);
    list_tensors(&e);
    result->step = e.checkpoint.state.step;
    result->n_tensors = e.checkpoint.model.n;
    result->has_tokenizer = e.tokenizer != NULL;
    status = write_out(&e, err);
out:
    rp_bpe_free(e.tokenizer);
    rp_mem_free(e.tensor);
    rp_checkpoint_release(&e.checkpoint);
    rp_spec_free(e.spec);
    rp_manifest_release(&e.manifest);
    return status;
}
