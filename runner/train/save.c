/* save.c - a save copies the state between two updates; a thread writes and commits the copy. A
 * large state in the machine's memory (plan->saves_live) is not copied: the thread reads it where
 * it lies, and the next update waits until it has. A device that can copies beside the steps: the
 * thread waits for the copy, and the next update on the device does. One save at a time. */
#include "train/train_int.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct rp_saver {
    struct rp_trainer *trainer;
    const char *run;
    const struct rp_manifest *manifest;
    struct rp_record *record;
    float *copy;    /* every tensor in the file's layout; NULL: the live state is read */
    bool beside;    /* the copy is made beside the steps, in the layout of memory */
    float *scratch; /* one tensor whose layouts differ: in memory layout, or, where the writer finds
                     * that, in the file's */
    struct rp_st_tensor *tensor;         /* model, then optimizer */
    const struct rp_model_tensor **kept; /* whose layout each has */
    const void **source;                 /* where each lies on the device */
    int n_model, n_optimizer;

    /* Without a copy: files of the save under way that are still to be read. */
    pthread_mutex_t mutex;
    pthread_cond_t was_read;
    int files_to_read;
    struct rp_st_source live;

    struct rp_checkpoint_content content;
    struct rp_sha256 tensors_hash;
    pthread_t thread;
    bool running;
    enum rp_status status; /* of the save under way, once joined */
    struct rp_error error;
};

static void list_tensor(struct rp_saver *s, int n, const char *name,
                        const struct rp_model_tensor *kept, const void *source)
{
    struct rp_st_tensor *tensor = &s->tensor[n];
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->shape.dtype = RP_DTYPE_F32;
    tensor->shape.n_dims = rp_model_file_dims(kept, tensor->shape.dims);
    s->kept[n] = kept;
    s->source[n] = source;
}

static void list_tensors(struct rp_saver *s)
{
    const struct rp_trainer *t = s->trainer;
    const struct rp_model *model = t->model;
    int most = model->n_kept * 4, n = 0;
    s->tensor = RP_NEW_ARRAY(struct rp_st_tensor, most);
    s->kept = RP_NEW_ARRAY(const struct rp_model_tensor *, most);
    s->source = RP_NEW_ARRAY(const void *, most);
    for (int i = 0; i < model->n_kept; i++)
        list_tensor(s, n++, model->kept[i].name, &model->kept[i], t->kept[i]);
    s->n_model = n;
    for (int i = 0; i < model->n_kept; i++) {
        char name[112];
        const char *names[2];
        rp_optim_states(t->spec, rp_plan_optim_kind(&model->kept[i]), names);
        for (int k = 0; k < 2 && t->state[k][i]; k++) {
            snprintf(name, sizeof name, "%s.%s", model->kept[i].name, names[k]);
            list_tensor(s, n++, name, &model->kept[i], t->state[k][i]);
        }
        if (!t->average[i]) continue;
        snprintf(name, sizeof name, "%s.ema", model->kept[i].name);
        list_tensor(s, n++, name, &model->kept[i], t->average[i]);
    }
    s->n_optimizer = n - s->n_model;
}

static size_t copy_bytes(const struct rp_saver *s)
{
    size_t bytes = 0;
    for (int i = 0; i < s->n_model + s->n_optimizer; i++)
        bytes += rp_tensor_bytes(&s->tensor[i].shape);
    return bytes;
}

/* The block that the copies lie in. */
static enum rp_status place_copies(struct rp_saver *s, bool live, struct rp_error *err)
{
    int64_t total = 0, most = 0;
    int n = s->n_model + s->n_optimizer;
    for (int i = 0; i < n; i++) {
        int64_t elements = rp_tensor_elements(&s->tensor[i].shape);
        total += elements;
        if (s->kept[i]->layout != RP_LAYOUT_PLAIN && elements > most) most = elements;
    }
    s->copy = live ? NULL : rp_mem_try((size_t)total * sizeof(float));
    s->scratch = rp_mem_try((size_t)most * sizeof(float));
    if ((!live && !s->copy) || !s->scratch)
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "no memory for the copy that a checkpoint is written from: lower "
                            "train.micro_batch, or take a machine with more");
    if (live) return RP_STATUS_OK;
    float *at = s->copy;
    for (int i = 0; i < n; i++) {
        s->tensor[i].shape.data = at;
        at += rp_tensor_elements(&s->tensor[i].shape);
    }
    return RP_STATUS_OK;
}

static struct rp_saver *new_saver(struct rp_trainer *trainer)
{
    struct rp_saver *s = RP_NEW(struct rp_saver);
    s->trainer = trainer;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->was_read, NULL);
    list_tensors(s);
    return s;
}

enum rp_status rp_saver_open(struct rp_trainer *trainer, const char *run,
                             const struct rp_manifest *manifest, struct rp_record *record,
                             struct rp_saver **saver, struct rp_error *err)
{
    struct rp_saver *s = new_saver(trainer);
    s->run = run;
    s->manifest = manifest;
    s->record = record;
    enum rp_status status = place_copies(s, trainer->plan->saves_live, err);
    if (status == RP_STATUS_OK && !s->copy) trainer->saver = s;
    s->beside = status == RP_STATUS_OK && s->copy && trainer->device->table->save_start;
    if (s->beside) trainer->device->table->pin(trainer->device, s->copy, copy_bytes(s));
    if (status == RP_STATUS_OK)
        *saver = s;
    else
        rp_saver_close(s);
    return status;
}

/* ---- without a copy ----------------------------------------------------------------------------
 */

static void set_files_to_read(struct rp_saver *s, int n)
{
    pthread_mutex_lock(&s->mutex);
    s->files_to_read = n;
    pthread_cond_signal(&s->was_read);
    pthread_mutex_unlock(&s->mutex);
}

void rp_saver_wait_read(struct rp_saver *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->mutex);
    while (s->files_to_read > 0) pthread_cond_wait(&s->was_read, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

/* rp_st_source: the live tensor, or what was copied of it, in the file's layout. */
static const void *take_live(void *context, const struct rp_st_tensor *tensor)
{
    struct rp_saver *s = context;
    if (!tensor) {
        if (!s->copy) set_files_to_read(s, s->files_to_read - 1);
        return NULL;
    }
    ptrdiff_t i = tensor - s->tensor;
    const void *source = s->copy ? tensor->shape.data : s->source[i];
    if (s->kept[i]->layout == RP_LAYOUT_PLAIN) return source;
    rp_model_to_file(s->kept[i], source, s->scratch);
    return s->scratch;
}

/* ---- a save ------------------------------------------------------------------------------------
 */

static enum rp_status prune(const struct rp_saver *s, struct rp_error *err)
{
    const struct rp_spec_checkpoint *policy = &s->trainer->spec->checkpoint;
    const struct rp_checkpoint_state *state = &s->content.state;
    return rp_checkpoint_prune(s->run, policy->keep_last,
                               rp_plan_steps(s->trainer->plan, &policy->keep_every),
                               policy->keep_best && state->has_best, state->best_step, err);
}

static void *write_copy(void *arg)
{
    struct rp_saver *s = arg;
    struct rp_device *device = s->trainer->device;
    s->status = s->beside ? device->table->save_wait(device, &s->error) : RP_STATUS_OK;
    if (s->status == RP_STATUS_OK) s->status = rp_record_sync(s->record, NULL, NULL, &s->error);
    if (s->status == RP_STATUS_OK)
        s->status = rp_checkpoint_save(s->run, &s->content, &s->tensors_hash, &s->error);
    if (!s->copy) set_files_to_read(s, 0); /* whatever failed */
    if (s->status == RP_STATUS_OK) s->status = prune(s, &s->error);
    return NULL;
}

enum rp_status rp_saver_wait(struct rp_saver *s, struct rp_sha256 *tensors_hash,
                             struct rp_error *err)
{
    if (s->running) pthread_join(s->thread, NULL);
    s->running = false;
    if (tensors_hash) *tensors_hash = s->tensors_hash;
    if (s->status == RP_STATUS_OK) return RP_STATUS_OK;
    enum rp_status status = s->status;
    s->status = RP_STATUS_OK;
    return rp_error_set(err, status, "%s", s->error.text);
}

/* Whoever is no longer the newest segment commits nothing. */
static enum rp_status still_ours(void *context, struct rp_error *err)
{
    return rp_manifest_check(((struct rp_saver *)context)->manifest, err);
}

static enum rp_status take_copy(struct rp_saver *s, struct rp_error *err)
{
    struct rp_device *device = s->trainer->device;
    for (int i = 0; i < s->n_model + s->n_optimizer; i++) {
        struct rp_st_tensor *tensor = &s->tensor[i];
        bool plain = s->kept[i]->layout == RP_LAYOUT_PLAIN;
        void *to = plain ? tensor->shape.data : s->scratch;
        RP_TRY(device->table->copy_out(device, to, s->source[i], rp_tensor_bytes(&tensor->shape),
                                       err));
        if (!plain) rp_model_to_file(s->kept[i], s->scratch, tensor->shape.data);
    }
    return RP_STATUS_OK;
}

/* As memory has it: the writer brings it into the file's layout. */
static enum rp_status start_copy(struct rp_saver *s, struct rp_error *err)
{
    struct rp_device *device = s->trainer->device;
    int n = s->n_model + s->n_optimizer;
    struct rp_device_copy *copies = RP_NEW_ARRAY(struct rp_device_copy, n);
    for (int i = 0; i < n; i++)
        copies[i] = (struct rp_device_copy){s->tensor[i].shape.data, s->source[i],
                                            rp_tensor_bytes(&s->tensor[i].shape)};
    enum rp_status status = device->table->save_start(device, copies, n, err);
    rp_mem_free(copies);
    return status;
}

enum rp_status rp_saver_save(struct rp_saver *s, const struct rp_checkpoint_state *state,
                             struct rp_error *err)
{
    RP_TRY(rp_saver_wait(s, NULL, err));
    s->live = (struct rp_st_source){take_live, s};
    if (s->beside)
        RP_TRY(start_copy(s, err));
    else if (s->copy)
        RP_TRY(take_copy(s, err));
    else
        set_files_to_read(s, 2);
    rp_error_clear(&s->error);
    s->content = (struct rp_checkpoint_content){.state = *state,
                                                .model = s->tensor,
                                                .n_model = s->n_model,
                                                .optimizer = s->tensor + s->n_model,
                                                .n_optimizer = s->n_optimizer,
                                                .source = s->copy && !s->beside ? NULL : &s->live,
                                                .before_commit = still_ours,
                                                .context = s};
    if (pthread_create(&s->thread, NULL, write_copy, s) == 0)
        s->running = true;
    else
        write_copy(s); /* no thread to be had: the step waits, the save does not fail */
    return RP_STATUS_OK;
}

enum rp_status rp_trainer_snapshot(struct rp_trainer *trainer, struct rp_checkpoint *checkpoint,
                                   struct rp_error *err)
{
    struct rp_saver *s = new_saver(trainer);
    enum rp_status status = place_copies(s, false, err);
    if (status == RP_STATUS_OK) status = take_copy(s, err);
    if (status == RP_STATUS_OK) {
        size_t n = (size_t)s->n_optimizer;
        struct rp_st_tensor *optimizer = RP_NEW_ARRAY(struct rp_st_tensor, s->n_optimizer + 1);
        memcpy(optimizer, s->tensor + s->n_model, n * sizeof *optimizer);
        *checkpoint = (struct rp_checkpoint){
            .model = {.tensor = s->tensor, .n = s->n_model, .block = s->copy},
            .optimizer = {.tensor = optimizer, .n = s->n_optimizer}};
        s->tensor = NULL;
        s->copy = NULL;
    }
    rp_saver_close(s);
    return status;
}

void rp_saver_close(struct rp_saver *s)
{
    if (!s) return;
    if (s->running) pthread_join(s->thread, NULL);
    if (s->beside) s->trainer->device->table->unpin(s->trainer->device, s->copy);
    s->trainer->saver = NULL;
    pthread_cond_destroy(&s->was_read);
    pthread_mutex_destroy(&s->mutex);
    rp_mem_free(s->source);
    rp_mem_free(s->kept);
    rp_mem_free(s->tensor);
    rp_mem_free(s->scratch);
    rp_mem_free(s->copy);
    rp_mem_free(s);
}
