/* save.c - a save copies the state between two updates; a thread writes and commits the copy. A
 * large state in the machine's memory (plan->saves_live) is not copied: the thread reads it where
 * it lies, and the next update waits until it has. A device that can copies beside the steps: the
 * thread waits for the copy, and the next update on the device does. One save at a time. */
#include "train/train_int.h"

#include "base/mem.h"
#include "base/sys.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* A tensor of the checkpoint. */
struct saved {
    int kept;           /* which tensor it is, or belongs to */
    const void *source; /* what lies here of it, on the device; NULL: nothing */
    bool cut;           /* several ranks own of it: it is gathered for its writer */
    int own;            /* its number in `tensor`, or -1: another rank writes it */
};

struct rp_saver {
    struct rp_trainer *trainer;
    const char *run;
    const struct rp_manifest *manifest; /* NULL, like record, on every rank but 0 */
    struct rp_record *record;
    bool reads_live; /* but for tensors that are gathered: these are copied all the same */
    bool beside;     /* the copy is made beside the steps, in the layout of memory */
    float *copy;     /* tensors in the file's layout */
    float *scratch;  /* one tensor whose layouts differ: in memory layout, or, where the writer
                      * finds that, in the file's */
    struct rp_st_tensor *tensor;         /* that this rank writes: model, then optimizer */
    const struct rp_model_tensor **kept; /* whose layout each has */
    const void **source;                 /* where each lies on the device */
    int n_model, n_optimizer;

    /* All tensors of the checkpoint, in order. */
    struct saved *item;
    struct rp_checkpoint_entry *entry;
    char (*name)[112];
    int n_all_model, n_all_optimizer;

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
    double begun, longest; /* clock, of the save under way; seconds */
    struct rp_error error;
};

/* ---- what is saved --------------------------------------------------------------------------- */

/* Tensor number n of the checkpoint belongs to kept tensor i. */
static void list_tensor(struct rp_saver *s, int n, int i, const char *state, const void *source,
                        bool cut)
{
    const struct rp_model_tensor *kept = &s->trainer->model->kept[i];
    int writer = s->trainer->plan->owners.writer[i], own = s->n_model + s->n_optimizer;
    snprintf(s->name[n], sizeof s->name[n], "%s%s%s", kept->name, state ? "." : "",
             state ? state : "");
    s->entry[n] = (struct rp_checkpoint_entry){
        .name = s->name[n], .bytes = rp_tensor_bytes(&kept->shape), .shard = writer};
    s->item[n] = (struct saved){.kept = i, .source = source, .cut = cut, .own = -1};
    if (writer != s->trainer->comm.rank) return;
    s->item[n].own = own;
    struct rp_st_tensor *tensor = &s->tensor[own];
    memcpy(tensor->name, s->name[n], sizeof tensor->name);
    tensor->shape.dtype = RP_DTYPE_F32;
    tensor->shape.n_dims = rp_model_file_dims(kept, tensor->shape.dims);
    s->kept[own] = kept;
    s->source[own] = source;
    if (state)
        s->n_optimizer++;
    else
        s->n_model++;
}

/* The states of kept tensor i, and its average; how many there are in all. */
static int list_states(struct rp_saver *s, int n, int i)
{
    const struct rp_trainer *t = s->trainer;
    const struct rp_model_tensor *kept = &t->model->kept[i];
    int writer = t->plan->owners.writer[i];
    bool cut = rp_model_is_trained(kept) &&
               rp_plan_owned(t->plan, writer, i).n < rp_tensor_elements(&kept->shape);
    const char *names[2];
    int states = kept->statistic || kept->frozen
                     ? 0
                     : rp_optim_states(t->spec, rp_plan_optim_kind(kept), names);
    for (int k = 0; k < states; k++) list_tensor(s, n++, i, names[k], t->state[k][i], cut);
    if (t->spec->train.ema_decay > 0 && !kept->frozen)
        list_tensor(s, n++, i, "ema", t->average[i], cut);
    return n;
}

static void list_tensors(struct rp_saver *s)
{
    const struct rp_trainer *t = s->trainer;
    const struct rp_model *model = t->model;
    int most = model->n_kept * 4 + 1, n = 0;
    s->tensor = RP_NEW_ARRAY(struct rp_st_tensor, most);
    s->kept = RP_NEW_ARRAY(const struct rp_model_tensor *, most);
    s->source = RP_NEW_ARRAY(const void *, most);
    s->item = RP_NEW_ARRAY(struct saved, most);
    s->entry = RP_NEW_ARRAY(struct rp_checkpoint_entry, most);
    s->name = rp_mem_new((size_t)most * sizeof *s->name);
    for (int i = 0; i < model->n_kept; i++) list_tensor(s, n++, i, NULL, t->kept[i], false);
    s->n_all_model = n;
    for (int i = 0; i < model->n_kept; i++) n = list_states(s, n, i);
    s->n_all_optimizer = n - s->n_all_model;
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
    int n = s->n_all_model + s->n_all_optimizer;
    s->reads_live = live;
    for (int k = 0; k < n; k++) {
        int i = s->item[k].own;
        if (i < 0) continue;
        int64_t elements = rp_tensor_elements(&s->tensor[i].shape);
        if (!live || s->item[k].cut) total += elements;
        if (s->kept[i]->layout != RP_LAYOUT_PLAIN && elements > most) most = elements;
    }
    s->copy = rp_mem_try((size_t)total * sizeof(float));
    s->scratch = rp_mem_try((size_t)most * sizeof(float));
    if (!s->copy || !s->scratch)
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "no memory for the copy that a checkpoint is written from: lower "
                            "train.micro_batch, or take a machine with more");
    float *at = s->copy;
    for (int k = 0; k < n; k++) {
        int i = s->item[k].own;
        if (i < 0 || (live && !s->item[k].cut)) continue;
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
    if (status == RP_STATUS_OK && s->reads_live) trainer->saver = s;
    s->beside = status == RP_STATUS_OK && !s->reads_live && trainer->device->table->save_start;
    if (s->beside) trainer->device->table->pin(trainer->device, s->copy, copy_bytes(s));
    if (status == RP_STATUS_OK)
        *saver = s;
    else
        rp_saver_close(s);
    return status;
}

/* ---- without a copy -------------------------------------------------------------------------- */

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
        if (s->reads_live) set_files_to_read(s, s->files_to_read - 1);
        return NULL;
    }
    ptrdiff_t i = tensor - s->tensor;
    const void *source = tensor->shape.data ? tensor->shape.data : s->source[i];
    bool in_file_layout =
        s->kept[i]->layout == RP_LAYOUT_PLAIN || (!s->beside && tensor->shape.data);
    if (in_file_layout) return source;
    rp_model_to_file(s->kept[i], source, s->scratch);
    return s->scratch;
}

/* ---- a save ---------------------------------------------------------------------------------- */

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
    struct rp_comm *comm = &s->trainer->comm;
    struct rp_device *device = s->trainer->device;
    s->status = s->beside ? device->table->save_wait(device, &s->error) : RP_STATUS_OK;
    if (s->status == RP_STATUS_OK && s->record)
        s->status = rp_record_sync(s->record, NULL, NULL, &s->error);
    if (comm->n_ranks > 1)
        s->status =
            rp_save_shard(comm, s->run, &s->content, s->status, &s->tensors_hash, &s->error);
    else if (s->status == RP_STATUS_OK)
        s->status = rp_checkpoint_save(s->run, &s->content, &s->tensors_hash, &s->error);
    if (s->reads_live) set_files_to_read(s, 0); /* whatever failed */
    if (s->status == RP_STATUS_OK && comm->rank == 0) s->status = prune(s, &s->error);
    double seconds = rp_sys_clock() - s->begun;
    if (seconds > s->longest) s->longest = seconds;
    return NULL;
}

double rp_saver_longest(const struct rp_saver *s)
{
    return s->longest;
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

/* A tensor as it lies on the device, in the file's layout; where the writer sees to that, in
 * memory's. */
static enum rp_status copy_tensor(struct rp_saver *s, int i, const void *from, struct rp_error *err)
{
    struct rp_device *device = s->trainer->device;
    struct rp_st_tensor *tensor = &s->tensor[i];
    bool plain = s->kept[i]->layout == RP_LAYOUT_PLAIN || s->beside;
    void *to = plain ? tensor->shape.data : s->scratch;
    RP_TRY(device->table->copy_out(device, to, from, rp_tensor_bytes(&tensor->shape), err));
    if (!plain) rp_model_to_file(s->kept[i], s->scratch, tensor->shape.data);
    return RP_STATUS_OK;
}

/* Tensors that several ranks own parts of are joined one after another, in memory that the next
 * step writes to: they are copied here and now, whatever becomes of the others. */
static enum rp_status take_copy(struct rp_saver *s, struct rp_error *err)
{
    for (int k = 0; k < s->n_all_model + s->n_all_optimizer; k++) {
        const struct saved *item = &s->item[k];
        const void *whole = item->source;
        if (item->cut) RP_TRY(rp_owners_join(s->trainer, item->kept, item->source, &whole, err));
        if (item->own >= 0 && s->tensor[item->own].shape.data && (item->cut || !s->beside))
            RP_TRY(copy_tensor(s, item->own, whole, err));
    }
    return RP_STATUS_OK;
}

/* As memory has it: the writer brings it into the file's layout. */
static enum rp_status start_copy(struct rp_saver *s, struct rp_error *err)
{
    struct rp_device *device = s->trainer->device;
    int n = 0;
    struct rp_device_copy *copies =
        RP_NEW_ARRAY(struct rp_device_copy, s->n_model + s->n_optimizer + 1);
    for (int k = 0; k < s->n_all_model + s->n_all_optimizer; k++) {
        int i = s->item[k].own;
        if (i < 0 || s->item[k].cut) continue;
        copies[n++] = (struct rp_device_copy){s->tensor[i].shape.data, s->source[i],
                                              rp_tensor_bytes(&s->tensor[i].shape)};
    }
    enum rp_status status = device->table->save_start(device, copies, n, err);
    rp_mem_free(copies);
    return status;
}

/* Every rank waits for rank 0, which has committed the save before and made room for this one. */
static enum rp_status begin_together(struct rp_saver *s, uint64_t step, struct rp_error *err)
{
    struct rp_comm *comm = &s->trainer->comm;
    uint64_t steps[RP_COMM_MAX_RANKS];
    if (comm->n_ranks == 1) return RP_STATUS_OK;
    if (comm->rank == 0) RP_TRY(rp_checkpoint_begin(s->run, step, err));
    return rp_comm_agree(comm, &step, sizeof step, steps, err);
}

enum rp_status rp_saver_save(struct rp_saver *s, const struct rp_checkpoint_state *state,
                             struct rp_error *err)
{
    const struct rp_comm *comm = &s->trainer->comm;
    RP_TRY(rp_saver_wait(s, NULL, err));
    s->begun = rp_sys_clock();
    RP_TRY(begin_together(s, state->step, err));
    s->live = (struct rp_st_source){take_live, s};
    RP_TRY(take_copy(s, err));
    if (s->beside) RP_TRY(start_copy(s, err));
    if (s->reads_live) set_files_to_read(s, 2);
    rp_error_clear(&s->error);
    s->content =
        (struct rp_checkpoint_content){.state = *state,
                                       .model = s->tensor,
                                       .n_model = s->n_model,
                                       .optimizer = s->tensor + s->n_model,
                                       .n_optimizer = s->n_optimizer,
                                       .source = s->reads_live || s->beside ? &s->live : NULL,
                                       .before_commit = still_ours,
                                       .context = s,
                                       .shard = comm->rank,
                                       .n_shards = comm->n_ranks,
                                       .all_model = s->entry,
                                       .n_all_model = s->n_all_model,
                                       .all_optimizer = s->entry + s->n_all_model,
                                       .n_all_optimizer = s->n_all_optimizer};
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
    rp_mem_free(s->name);
    rp_mem_free(s->entry);
    rp_mem_free(s->item);
    rp_mem_free(s->source);
    rp_mem_free(s->kept);
    rp_mem_free(s->tensor);
    rp_mem_free(s->scratch);
    rp_mem_free(s->copy);
    rp_mem_free(s);
}
