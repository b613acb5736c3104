/* batch.c - the samples of one pass, to the device.
 *
 * A CPU's own threads fill them in place: a thread beside them would take its time from theirs,
 * and they wait for each other at every op. What is read from files, and what a GPU takes, comes
 * from threads that read ahead (data/loader.c). */
#include "train/train_int.h"

struct fill {
    const struct rp_trainer *trainer;
    bool evaluates;
    enum rp_split split; /* evaluates: samples of it, from `first` on; else training positions */
    uint64_t first;
    int64_t samples;
    unsigned char *x, *y;
    size_t x_bytes, y_bytes; /* of a sample */
};

/* A sample is a function of its position: no cut among threads can be seen in a batch. */
static void fill_range(const struct fill *fill, int64_t begin, int64_t end)
{
    const struct rp_data *data = fill->trainer->data;
    uint64_t first = fill->first + (uint64_t)begin;
    unsigned char *x = fill->x + (size_t)begin * fill->x_bytes;
    unsigned char *y = fill->y + (size_t)begin * fill->y_bytes;
    if (begin == end) return;
    if (fill->evaluates)
        rp_data_fill_eval(data, fill->split, (int64_t)first, end - begin, x, y);
    else
        rp_data_fill_train(data, first, end - begin, x, y);
}

static void fill_part(void *arg, int part)
{
    const struct fill *fill = arg;
    int64_t parts = fill->trainer->device->config.threads;
    fill_range(fill, fill->samples * part / parts, fill->samples * (part + 1) / parts);
}

static size_t input_bytes(const struct rp_bound *bound)
{
    return rp_tensor_bytes(&bound->graph->tensor[bound->graph->input].shape);
}

static size_t target_bytes(const struct rp_bound *bound)
{
    return rp_tensor_bytes(&bound->graph->tensor[bound->graph->target].shape);
}

static void fill_in_place(struct rp_trainer *t, uint64_t position)
{
    int64_t samples = t->plan->pass_samples;
    struct fill fill = {.trainer = t,
                        .first = position,
                        .samples = samples,
                        .x = t->train.input,
                        .y = t->train.target,
                        .x_bytes = input_bytes(&t->train) / (size_t)samples,
                        .y_bytes = target_bytes(&t->train) / (size_t)samples};
    t->device->table->on_threads(t->device, fill_part, &fill);
}

void rp_batch_fill_eval(struct rp_trainer *t, enum rp_split split, int64_t first, int64_t n,
                        void *x, void *y)
{
    size_t samples = (size_t)t->model->eval_samples;
    struct fill fill = {.trainer = t,
                        .evaluates = true,
                        .split = split,
                        .first = (uint64_t)first,
                        .samples = n,
                        .x = x,
                        .y = y,
                        .x_bytes = input_bytes(&t->eval) / samples,
                        .y_bytes = target_bytes(&t->eval) / samples};
    if (t->device->table->on_threads)
        t->device->table->on_threads(t->device, fill_part, &fill);
    else
        fill_range(&fill, 0, n);
}

enum rp_status rp_batch_take(struct rp_trainer *t, uint64_t position, struct rp_error *err)
{
    const struct rp_device_table *device = t->device->table;
    struct rp_ahead *batch = &t->ahead;
    rp_profile_phase(t->profile, RP_PHASE_DATA);
    if (!t->loader) {
        fill_in_place(t, position);
        return RP_STATUS_OK;
    }
    if (batch->taken && batch->position != position)
        RP_TRY(device->copy_ahead(t->device, NULL, 0, err));
    if (!batch->taken || batch->position != position) {
        RP_TRY(device->copies_wait(t->device, err)); /* of the batch that the loader fills anew */
        rp_loader_take(t->loader, position, &batch->x, &batch->y);
    }
    batch->taken = false;
    RP_TRY(device->copy_in(t->device, t->train.input, batch->x, input_bytes(&t->train), err));
    return device->copy_in(t->device, t->train.target, batch->y, target_bytes(&t->train), err);
}

enum rp_status rp_batch_look_ahead(struct rp_trainer *t, uint64_t next_step, struct rp_error *err)
{
    uint64_t position = next_step * (uint64_t)t->plan->batch +
                        (uint64_t)(t->comm.rank * (t->plan->batch / t->plan->ranks));
    const struct rp_device_table *device = t->device->table;
    struct rp_ahead *batch = &t->ahead;
    if (!device->copy_ahead || rp_profile_is_timed(t->profile)) return RP_STATUS_OK;
    RP_TRY(device->copies_wait(t->device, err));
    rp_loader_take(t->loader, position, &batch->x, &batch->y);
    batch->position = position;
    batch->taken = true;
    RP_TRY(device->copy_ahead(t->device, batch->x, input_bytes(&t->train), err));
    return device->copy_ahead(t->device, batch->y, target_bytes(&t->train), err);
}
