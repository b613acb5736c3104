/* memory.c - what a rank will hold, row by row, as train/ allocates it; and what a step computes.
 */
#include "plan/plan_int.h"

#include "base/sys.h"
#include "comm/comm.h"

#include <stdio.h>
#include <string.h>

/* What the process holds beside its tensors: heap, relocated data of libraries; and a thread's
 * stack. Both measured. */
static const uint64_t program_bytes = (uint64_t)1 << 20;
static const uint64_t thread_bytes = (uint64_t)32 << 10;
/* Through which a checkpoint's writer hashes and writes (checkpoint/safetensors_write.c). */
static const uint64_t save_buffer_bytes = (uint64_t)4 << 20;
/* Through which bytes go to and from a GPU (kernels/cuda/copy.cu). */
static const uint64_t staging_bytes = (uint64_t)16 << 20;
/* Of a GPU's memory a process takes what is no allocation of ours, in bytes, at most:
 * - the context, with the driver's own code and buffers: 426 MiB on an RTX 6000 Ada under CUDA 13
 *   (unslothai/unsloth-zoo pull 1053), 616 MiB on a server's GPU (LMCache issue 4019);
 * - local memory, which a context has for every thread that its processors can hold at once
 *   (NVIDIA's forum, topic 289339): 1 KiB, more than any kernel of ours asks for (tests/README.md),
 *   for 2048 threads of 160 processors; with it the code of the kernels (5 MB), graphs, and what
 *   two dozen blocks lose by beginning on 2 MiB.
 * Together 1 GiB, as ollama leaves (its pull 2114). */
static const uint64_t gpu_context_bytes = (uint64_t)640 << 20;
static const uint64_t gpu_code_bytes = (uint64_t)384 << 20;
/* NCCL's buffers: for rings and trees, and what leaves the host, 512 MiB (NVIDIA/nccl issue 2363);
 * and of an all-to-all, for each other GPU of the host, 32 channels of 10 MiB to receive and 2 MiB
 * to send (issue 1685: 3.3 GB among 8 H100). */
static const uint64_t nccl_bytes = (uint64_t)512 << 20;
static const uint64_t nccl_peer_bytes = (uint64_t)32 * 12 << 20;
enum { NCCL_MOST_PEERS = 7 };
/* A larger state is saved from where it lies, where the writer can reach it: by the time of the
 * next update it has been read, as steps grow with the model. */
static const uint64_t most_copied_bytes = (uint64_t)64 << 20;

static void add_row(struct rp_plan *plan, const char *what, uint64_t bytes)
{
    if (bytes == 0) return;
    plan->memory[plan->n_memory++] = (struct rp_plan_memory){what, bytes, false};
    plan->memory_bytes += bytes;
}

/* What lies where the job computes. */
static void add_device_row(struct rp_plan *plan, const char *what, uint64_t bytes)
{
    if (plan->device == &rp_device_cpu) {
        add_row(plan, what, bytes);
    } else if (bytes > 0) {
        plan->memory[plan->n_memory++] = (struct rp_plan_memory){what, bytes, true};
        plan->device_bytes += bytes;
    }
}

static uint64_t aligned_tensor(const struct rp_tensor *shape)
{
    return rp_plan_align(rp_tensor_bytes(shape));
}

static int n_states(const struct rp_spec *spec, const struct rp_model_tensor *kept)
{
    const char *names[2];
    return rp_model_is_trained(kept) ? rp_optim_states(spec, rp_plan_optim_kind(kept), names) : 0;
}

/* Of what a rank owns: states of the optimizer, and averages of train.ema. */
static void owned_bytes(const struct rp_plan *plan, const struct rp_spec *spec, int rank,
                        uint64_t *states, uint64_t *averages)
{
    *states = *averages = 0;
    for (int i = 0; i < plan->model->n_kept; i++) {
        struct rp_plan_part part = rp_plan_owned(plan, rank, i);
        uint64_t bytes = rp_plan_align((uint64_t)part.n * sizeof(float));
        *states += (uint64_t)n_states(spec, &plan->model->kept[i]) * bytes;
        if (spec->train.ema_decay > 0) *averages += bytes;
    }
}

/* Aligned bytes of the kept tensors that `which` takes. */
static uint64_t kept_bytes(const struct rp_model *model,
                           bool (*which)(const struct rp_model_tensor *))
{
    uint64_t bytes = 0;
    for (int i = 0; i < model->n_kept; i++)
        if (which(&model->kept[i])) bytes += aligned_tensor(&model->kept[i].shape);
    return bytes;
}

static bool is_parameter(const struct rp_model_tensor *tensor)
{
    return !tensor->statistic;
}

static bool is_statistic(const struct rp_model_tensor *tensor)
{
    return tensor->statistic;
}

static uint64_t io_bytes(const struct rp_graph *graph)
{
    return aligned_tensor(&graph->tensor[graph->input].shape) +
           aligned_tensor(&graph->tensor[graph->target].shape);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the update ------------------------------------------------------------------------------ */

/* The chunks of the norm; twice where they are put in another order. */
static uint64_t norm_bytes(const struct rp_plan *plan)
{
    uint64_t bytes = (uint64_t)plan->owners.n_chunks * sizeof(double);
    return plan->owners.reordered ? 2 * bytes + bytes / 2 : bytes;
}

/* The update call of a kept tensor, for its cost and scratch. */
static void update_call(const struct rp_spec *spec, const struct rp_model_tensor *kept,
                        struct rp_op_call *call)
{
    static char given;
    *call = (struct rp_op_call){.op = rp_optim_op(spec, rp_plan_optim_kind(kept))};
    struct rp_tensor value = kept->shape;
    value.data = &given;
    const char *names[2];
    int states = rp_optim_states(spec, rp_plan_optim_kind(kept), names);
    for (int i = 0; i < 2 + states; i++) call->in[i] = value; /* p, g, states */
    for (int i = 0; i < 1 + states; i++) call->out[i] = value;
    rp_optim_set_parts(spec, &kept->shape, kept->n_joined, kept->joined_end, &call->params.optim);
}

static uint64_t scratch_of(const struct rp_device_table *device,
                           const struct rp_device_config *config, const struct rp_graph *graph)
{
    uint64_t most = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        struct rp_op_call call;
        rp_graph_call(graph, i, &call);
        most = larger(most, device->scratch_bytes(config, &call));
    }
    return most;
}

static uint64_t scratch_bytes(const struct rp_plan *plan, const struct rp_spec *spec)
{
    struct rp_device_config config = {.threads = plan->threads};
    const struct rp_device_table *device = plan->device;
    uint64_t most = larger(scratch_of(device, &config, &plan->model->train),
                           scratch_of(device, &config, &plan->model->eval));
    for (int i = 0; i < plan->model->n_parameters; i++) {
        struct rp_op_call call;
        update_call(spec, &plan->model->kept[i], &call);
        most = larger(most, device->scratch_bytes(&config, &call));
    }
    return most;
}

static void set_flops(struct rp_plan *plan, const struct rp_spec *spec)
{
    const struct rp_graph *graph = &plan->model->train;
    double flops, bytes, pass = 0, update = 0;
    struct rp_op_call call;
    for (int i = 0; i < graph->n_nodes; i++) {
        rp_graph_call(graph, i, &call);
        rp_op_cost(&call, &flops, &bytes);
        pass += flops;
    }
    for (int i = 0; i < plan->model->n_kept; i++) {
        if (!rp_model_is_trained(&plan->model->kept[i])) continue;
        update_call(spec, &plan->model->kept[i], &call);
        rp_op_cost(&call, &flops, &bytes);
        update += flops;
    }
    plan->flops_per_step = pass * plan->n_passes * plan->ranks + update;
}

/* ---- checkpoint ------------------------------------------------------------------------------ */

static uint64_t copies_of(const struct rp_spec *spec, const struct rp_model_tensor *kept)
{
    return 1 + (uint64_t)n_states(spec, kept) + (spec->train.ema_decay > 0 && !kept->frozen);
}

uint64_t rp_plan_checkpoint_numbers(const struct rp_spec *spec, const struct rp_model_tensor *kept)
{
    return (uint64_t)rp_tensor_elements(&kept->shape) * copies_of(spec, kept);
}

/* fp32 numbers in a checkpoint; the most that one rank writes of them; and the largest tensor whose
 * layout in the file is another. */
struct checkpoint_size {
    uint64_t numbers, on_rank, largest, tensors;
};

static struct checkpoint_size checkpoint_size(const struct rp_plan *plan,
                                              const struct rp_spec *spec)
{
    struct checkpoint_size size = {0};
    for (int r = 0; r < plan->ranks; r++) {
        uint64_t here = 0;
        for (int i = 0; i < plan->model->n_kept; i++) {
            const struct rp_model_tensor *kept = &plan->model->kept[i];
            if (plan->owners.writer[i] != r) continue;
            here += rp_plan_checkpoint_numbers(spec, kept);
            size.tensors += copies_of(spec, kept);
            if (kept->layout != RP_LAYOUT_PLAIN)
                size.largest = larger(size.largest, (uint64_t)rp_tensor_elements(&kept->shape));
        }
        size.numbers += here;
        size.on_rank = larger(size.on_rank, here);
    }
    return size;
}

/* States of tensors that several ranks own of, which are gathered for their writer: the most. */
static uint64_t cut_bytes(const struct rp_plan *plan, const struct rp_spec *spec)
{
    uint64_t most = 0;
    for (int r = 0; r < plan->ranks; r++) {
        uint64_t bytes = 0;
        for (int i = 0; i < plan->model->n_kept; i++) {
            const struct rp_model_tensor *kept = &plan->model->kept[i];
            int64_t n = rp_tensor_elements(&kept->shape);
            if (plan->owners.writer[i] != r || !rp_model_is_trained(kept)) continue;
            if (rp_plan_owned(plan, r, i).n < n)
                bytes += (copies_of(spec, kept) - 1) * (uint64_t)n * sizeof(float);
        }
        most = larger(most, bytes);
    }
    return most;
}

/* Parts of a block that come from every rank for what this one owns of it: the most. */
static uint64_t incoming_bytes(const struct rp_plan *plan)
{
    const struct rp_plan_owners *o = &plan->owners;
    uint64_t most = 0, shared = (o->sum_bytes - o->shared_sums) / (uint64_t)plan->ranks;
    if (plan->ranks == 1) return 0;
    for (int j = 0; j < o->n_exchanges; j++)
        for (int r = 0; r < plan->ranks; r++)
            most = larger(most, o->exchange[j].border[r + 1] - o->exchange[j].border[r]);
    return (uint64_t)plan->ranks * larger(most, shared + RP_PLAN_ALIGN);
}

/* Memory of the host moves the bytes, and sums are added straight from there: it is demanded, or
 * `auto` will find it. */
static bool shares_memory(const struct rp_plan *plan, const struct rp_spec *spec)
{
    const char *comm = spec->resources.comm ? spec->resources.comm : "auto";
    if (plan->ranks == 1 || plan->device != &rp_device_cpu) return false;
    return strcmp(comm, "shm") == 0 || (plan->one_host && strcmp(comm, "auto") == 0);
}

static void add_exchange_rows(struct rp_plan *plan, const struct rp_spec *spec)
{
    plan->owners.incoming = incoming_bytes(plan);
    plan->more_between_hosts = 0;
    if (!shares_memory(plan, spec)) {
        add_device_row(plan, "sums of other ranks", plan->owners.incoming);
        return;
    }
    uint64_t own = rp_comm_shared_bytes(plan->ranks) / (uint64_t)plan->ranks;
    add_row(plan, "part of the shared memory", own);
    if (plan->one_host && plan->owners.incoming > own)
        plan->more_between_hosts = plan->owners.incoming - own;
}

/* What the driver and NCCL take beside it all. */
static void add_gpu_rows(struct rp_plan *plan)
{
    int peers = plan->ranks - 1 < NCCL_MOST_PEERS ? plan->ranks - 1 : NCCL_MOST_PEERS;
    plan->context_bytes = 0;
    if (plan->device == &rp_device_cpu) return;
    plan->context_bytes = gpu_context_bytes;
    add_device_row(plan, "context of the driver, at most", gpu_context_bytes);
    add_device_row(plan, "code, local memory, at most", gpu_code_bytes);
    if (peers > 0)
        add_device_row(plan, "NCCL's buffers, at most",
                       nccl_bytes + (uint64_t)peers * nccl_peer_bytes);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* A GPU leaves the processors free: each may fill a batch. Beside a CPU's work a thread reads what
 * lies in files; what is in memory is filled by the threads that compute (train/batch.c). */
static void set_loader(struct rp_plan *plan)
{
    bool on_cpu = plan->device == &rp_device_cpu;
    int most = on_cpu ? 1 : RP_PLAN_GPU_DEPTH;
    plan->loader_threads = plan->loader_depth = 0;
    if (on_cpu && !plan->data.mapped) return;
    plan->loader_threads = plan->threads < most ? plan->threads : most;
    plan->loader_depth =
        plan->loader_threads < RP_PLAN_LOADER_DEPTH ? RP_PLAN_LOADER_DEPTH : plan->loader_threads;
}

void rp_plan_set_memory(struct rp_plan *plan, const struct rp_spec *spec)
{
    const struct rp_model *model = plan->model;
    struct checkpoint_size saved = checkpoint_size(plan, spec);
    uint64_t states = 0, averages = 0;
    uint64_t levels = (uint64_t)plan->n_levels;
    uint64_t program = program_bytes + (uint64_t)plan->threads * thread_bytes;
    struct rp_plan_data_memory data = rp_plan_data_memory(plan, spec);
    set_loader(plan);
    for (int r = 0; r < plan->ranks; r++) { /* the rank that holds most */
        uint64_t of_rank, averages_of_rank;
        owned_bytes(plan, spec, r, &of_rank, &averages_of_rank);
        if (of_rank + averages_of_rank < states + averages) continue;
        states = of_rank;
        averages = averages_of_rank;
    }
    /* A header line a tensor, state. */
    plan->checkpoint_bytes = saved.numbers * 4 + saved.tensors * 160 + 2048;
    plan->n_memory = 0;
    plan->memory_bytes = plan->device_bytes = 0;
    plan->scratch_bytes = scratch_bytes(plan, spec);
    add_device_row(plan, "parameters", kept_bytes(model, is_parameter));
    add_device_row(plan, "running statistics", kept_bytes(model, is_statistic));
    add_device_row(plan, "gradients", plan->owners.sum_bytes);
    add_device_row(plan, "gradients, tree over passes", (levels - 1) * plan->owners.sum_bytes);
    add_device_row(plan, "gradients, open chains", plan->partial ? plan->owners.sum_bytes : 0);
    add_exchange_rows(plan, spec);
    add_device_row(plan, "optimizer state", states);
    add_device_row(plan, "averages of the weights", averages);
    add_device_row(plan, "activations", larger(plan->train_place.bytes, plan->eval_place.bytes));
    add_device_row(plan, "input and target of a pass",
                   larger(io_bytes(&model->train), io_bytes(&model->eval)));
    if (plan->device != &rp_device_cpu)
        add_device_row(plan, "next input and target", io_bytes(&model->train));
    add_device_row(plan, "kernel scratch", plan->scratch_bytes + norm_bytes(plan));
    add_gpu_rows(plan);
    add_row(plan, "data set", data.held);
    if (plan->loader_depth > 0)
        add_row(plan, "batches read ahead",
                rp_loader_bytes(&plan->data, plan->pass_samples, plan->loader_depth));
    add_row(plan, "evaluation batch", io_bytes(&model->eval));
    plan->saves_live = plan->device == &rp_device_cpu && saved.on_rank * 4 > most_copied_bytes;
    bool pinned = plan->device != &rp_device_cpu;
    if (plan->saves_live)
        add_row(plan, "checkpoint writer",
                saved.largest * 4 + cut_bytes(plan, spec) + save_buffer_bytes);
    else
        add_row(plan, pinned ? "checkpoint copy, pinned" : "checkpoint copy",
                (saved.on_rank + saved.largest) * 4 + save_buffer_bytes);
    if (plan->device != &rp_device_cpu) add_row(plan, "pinned staging", staging_bytes);
    add_row(plan, "program", program);
    /* Data is read before anything else is there; only what goes beyond the rest counts. */
    if (data.most + program > plan->memory_bytes)
        add_row(plan, "reading the data set", data.most + program - plan->memory_bytes);
    set_flops(plan, spec);
}

void rp_plan_share_host(struct rp_plan *plan, const struct rp_spec *spec)
{
    plan->one_host = true;
    rp_plan_set_memory(plan, spec);
}

/* "12.3 MiB", at least 7 columns. */
static void size_text(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024.0 && unit + 1 < RP_COUNT(units); unit++) value /= 1024.0;
    snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void rp_plan_print_memory(const struct rp_plan *plan, struct rp_text *text)
{
    char size[32];
    for (int i = 0; i < plan->n_memory; i++) {
        size_text(plan->memory[i].bytes, size);
        rp_text_add(text, "  %-30s %12s%s\n", plan->memory[i].what, size,
                    plan->memory[i].on_device ? "  GPU" : "");
    }
    if (plan->device_bytes > 0) {
        size_text(plan->device_bytes, size);
        rp_text_add(text, "  %-30s %12s\n", "in all, on the GPU of a rank", size);
    }
    size_text(plan->memory_bytes, size);
    rp_text_add(text, "  %-30s %12s\n", "in all, on a rank", size);
    if (plan->more_between_hosts == 0) return;
    size_text(plan->more_between_hosts, size);
    rp_text_add(text, "  %-30s %12s more\n", "on several hosts", size);
}

static enum rp_status check(const struct rp_plan *plan, uint64_t bytes, uint64_t limit,
                            const char *whose, struct rp_error *err)
{
    if (bytes <= limit) return RP_STATUS_OK;
    char need[32], have[32];
    struct rp_text table = {0};
    size_text(bytes, need);
    size_text(limit, have);
    rp_plan_print_memory(plan, &table);
    enum rp_status status = rp_error_set(
        err, RP_STATUS_MEMORY,
        "the job needs %s and %s gives %s; lower train.micro_batch (it changes no bit at "
        "determinism: portable), train.batch or the model\n%.*s",
        need, whose, have, (int)(table.length ? table.length - 1 : 0), rp_text_get(&table));
    rp_text_release(&table);
    return status;
}

enum rp_status rp_plan_check_memory(const struct rp_plan *plan, struct rp_error *err)
{
    return check(plan, plan->memory_bytes, rp_sys_memory_limit(), "this machine", err);
}

enum rp_status rp_plan_check_device_memory(const struct rp_plan *plan, uint64_t bytes,
                                           struct rp_error *err)
{
    return check(plan, plan->device_bytes, bytes + plan->context_bytes, "the GPU", err);
}
