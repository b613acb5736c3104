/* graph.cu - a training step as CUDA graphs.
 *
 * The first step runs call by call, so that everything is loaded and the scratch has its size. The
 * second is captured, and from then on the same calls are only checked against what was captured;
 * the graph is launched in their place. A step is cut where data comes in and where ranks exchange
 * gradients or parameters: on one rank, with one pass to a step, there is one graph. Where a step
 * asks for something else than the one before (it does not happen in a run, whose plan is static),
 * the calls held back are done one by one and the next step is captured anew. The step after a save
 * is run call by call, and the graph is kept. */
#include "cuda/gpu.h"

#include <stdlib.h>

struct held_call {
    struct rp_op_call call;
    struct rp_pass pass;
    bool is_op, has_pass;
    void *zero; /* not an op: a block to be set to zero */
    size_t bytes;
    int slots; /* of the live values it reads */
};

struct segment {
    struct held_call *call;
    int n, capacity;
    cudaGraphExec_t exec;
};

enum mode { MODE_NOW, MODE_CAPTURE, MODE_REPLAY };

struct rp_cuda_graph {
    enum mode mode;
    bool in_step, capturing, warm;
    struct segment *segment;
    int n, capacity;  /* segments captured */
    int at, at_call;  /* the segment under way, and calls seen in it */
    bool unsupported; /* a step cannot be captured: run on without */
};

/* ---- lists ----------------------------------------------------------------------------------- */

static void *grown(void *list, int n, int *capacity, size_t bytes)
{
    if (n < *capacity) return list;
    *capacity = *capacity ? 2 * *capacity : 16;
    return realloc(list, (size_t)*capacity * bytes);
}

static enum rp_status add_segment(struct rp_cuda_graph *g, struct rp_error *err)
{
    void *list = grown(g->segment, g->n, &g->capacity, sizeof *g->segment);
    if (!list) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the list of graphs");
    g->segment = (struct segment *)list;
    memset(&g->segment[g->n++], 0, sizeof *g->segment);
    return RP_STATUS_OK;
}

static void set_held(struct held_call *held, const struct rp_op_call *call,
                     const struct rp_pass *pass, void *zero, size_t bytes)
{
    memset(held, 0, sizeof *held);
    if (call) held->call = *call;
    if (pass) held->pass = *pass;
    held->is_op = call != NULL;
    held->has_pass = pass != NULL;
    held->zero = zero;
    held->bytes = bytes;
}

static enum rp_status add_call(struct segment *s, const struct held_call *held,
                               struct rp_error *err)
{
    void *list = grown(s->call, s->n, &s->capacity, sizeof *s->call);
    if (!list) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the calls of a graph");
    s->call = (struct held_call *)list;
    s->call[s->n++] = *held;
    return RP_STATUS_OK;
}

static bool same_tensor(const struct rp_tensor *a, const struct rp_tensor *b)
{
    if (a->data != b->data || a->n_dims != b->n_dims) return false;
    for (int i = 0; i < a->n_dims; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

/* Parameters of an op are those of its node, so tensors and rows tell calls apart. */
static bool same_call(const struct held_call *a, const struct held_call *b)
{
    if (a->is_op != b->is_op || a->has_pass != b->has_pass || a->zero != b->zero ||
        a->bytes != b->bytes || a->slots != b->slots)
        return false;
    if (!a->is_op) return true;
    if (a->call.op != b->call.op || a->call.update != b->call.update) return false;
    if (memcmp(&a->pass.rows, &b->pass.rows, sizeof a->pass.rows) != 0) return false;
    for (int i = 0; i < RP_OP_MAX_IN; i++)
        if (!same_tensor(&a->call.in[i], &b->call.in[i])) return false;
    for (int i = 0; i < RP_OP_MAX_OUT; i++)
        if (!same_tensor(&a->call.out[i], &b->call.out[i])) return false;
    return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

enum rp_status rp_cuda_graph_open(struct rp_cuda *cuda, struct rp_error *err)
{
    cuda->graph = (struct rp_cuda_graph *)calloc(1, sizeof *cuda->graph);
    if (!cuda->graph) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    return RP_STATUS_OK;
}

void rp_cuda_graph_forget(struct rp_cuda *cuda)
{
    struct rp_cuda_graph *g = cuda->graph;
    if (!g) return;
    for (int i = 0; i < g->n; i++) {
        if (g->segment[i].exec) (void)cudaGraphExecDestroy(g->segment[i].exec);
        free(g->segment[i].call);
    }
    if (g->mode != MODE_NOW) rp_cuda_live_gather(cuda, false);
    g->mode = MODE_NOW; /* what is left of a step under way is done call by call */
    g->n = g->at = g->at_call = 0;
}

/* ---- doing ----------------------------------------------------------------------------------- */

static enum rp_status do_now(struct rp_cuda *cuda, const struct held_call *held,
                             struct rp_error *err)
{
    if (!held->is_op) {
        if (held->bytes == 0) return RP_STATUS_OK; /* of which a graph has no node */
        RP_CUDA_TRY(cudaMemsetAsync(held->zero, 0, held->bytes, cuda->stream));
        return RP_STATUS_OK;
    }
    const struct rp_pass *pass = held->has_pass ? &held->pass : NULL;
    (void)rp_cuda_live_note(cuda, &held->call, pass);
    if (!cuda->graph->capturing) RP_TRY(rp_cuda_live_set(cuda, err));
    return rp_cuda_run_now(cuda, &held->call, pass, err);
}

static enum rp_status end_capture(struct rp_cuda *cuda, cudaGraphExec_t *exec, struct rp_error *err)
{
    cudaGraph_t graph = NULL;
    cuda->graph->capturing = false;
    RP_CUDA_TRY(cudaStreamEndCapture(cuda->stream, &graph));
    cudaError_t code = exec ? cudaGraphInstantiate(exec, graph, 0) : cudaSuccess;
    (void)cudaGraphDestroy(graph);
    if (code == cudaSuccess) return RP_STATUS_OK;
    char text[256];
    *exec = NULL;
    cuda->graph->unsupported = true;
    snprintf(text, sizeof text, "no graph of a step: %s; every kernel is launched by itself",
             cudaGetErrorString(code));
    if (rp_cuda_warn) rp_cuda_warn(text);
    (void)cudaGetLastError(); /* nothing has been lost: the calls are done one by one */
    return RP_STATUS_OK;
}

/* A failure may have left a capture open, and nothing can be freed under one. */
void rp_cuda_graph_stop(struct rp_cuda *cuda)
{
    struct rp_cuda_graph *g = cuda->graph;
    if (!g) return;
    if (g->capturing) {
        (void)end_capture(cuda, NULL, NULL);
        (void)cudaGetLastError();
        rp_cuda_graph_forget(cuda);
    }
    g->mode = MODE_NOW;
    g->at = g->at_call = 0;
}

/* This step is another than the one captured, or cannot be captured: what was held back of it is
 * done now, the rest as it comes. */
static enum rp_status abandon(struct rp_cuda *cuda, struct rp_error *err)
{
    struct rp_cuda_graph *g = cuda->graph;
    enum rp_status status = RP_STATUS_OK;
    if (g->capturing) RP_TRY(end_capture(cuda, NULL, err));
    rp_cuda_live_gather(cuda, false);
    g->mode = MODE_NOW;
    for (int i = 0; status == RP_STATUS_OK && i < g->at_call; i++)
        status = do_now(cuda, &g->segment[g->at].call[i], err);
    rp_cuda_graph_forget(cuda);
    return status;
}

static enum rp_status capture(struct rp_cuda *cuda, const struct held_call *held,
                              struct rp_error *err)
{
    struct rp_cuda_graph *g = cuda->graph;
    if (g->at == g->n) RP_TRY(add_segment(g, err));
    if (!g->capturing) { /* relaxed: a wait of ours, for what is in no graph, would lose no run */
        RP_CUDA_TRY(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeRelaxed));
        g->capturing = true;
    }
    RP_TRY(add_call(&g->segment[g->at], held, err));
    g->at_call++;
    return do_now(cuda, held, err);
}

enum rp_status rp_cuda_graph_do(struct rp_cuda *cuda, const struct rp_op_call *call,
                                const struct rp_pass *pass, void *zero, size_t bytes,
                                struct rp_error *err)
{
    struct rp_cuda_graph *g = cuda->graph;
    struct held_call held;
    set_held(&held, call, pass, zero, bytes);
    if (g->mode == MODE_NOW) return do_now(cuda, &held, err);
    held.slots = call ? rp_cuda_live_note(cuda, call, pass) : 0;
    if (held.slots < 0) {
        g->unsupported = true;
        RP_TRY(abandon(cuda, err));
        return do_now(cuda, &held, err);
    }
    if (g->mode == MODE_CAPTURE) return capture(cuda, &held, err);
    bool expected = g->at < g->n && g->at_call < g->segment[g->at].n &&
                    same_call(&g->segment[g->at].call[g->at_call], &held);
    if (!expected) {
        RP_TRY(abandon(cuda, err));
        return do_now(cuda, &held, err);
    }
    g->segment[g->at].call[g->at_call++] = held;
    return RP_STATUS_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */

enum rp_status rp_cuda_graph_cut(struct rp_cuda *cuda, struct rp_error *err)
{
    struct rp_cuda_graph *g = cuda->graph;
    if (g->mode == MODE_NOW || g->at_call == 0) return RP_STATUS_OK;
    struct segment *s = &g->segment[g->at];
    if (g->mode == MODE_CAPTURE) RP_TRY(end_capture(cuda, &s->exec, err));
    if (g->at_call != s->n || !s->exec) return abandon(cuda, err);
    RP_TRY(rp_cuda_live_set(cuda, err));
    RP_CUDA_TRY(cudaGraphLaunch(s->exec, cuda->stream));
    rp_cuda_live_gather(cuda, true);
    g->at++;
    g->at_call = 0;
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_step_begin(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_graph *g = cuda->graph;
    (void)err;
    rp_cuda_graph_stop(cuda);
    g->in_step = true;
    if (device->config.no_graph || !g->warm || g->unsupported) return RP_STATUS_OK;
    if (rp_cuda_save_pending(cuda)) return RP_STATUS_OK; /* its fence is in no graph */
    g->mode = g->n == 0 ? MODE_CAPTURE : MODE_REPLAY;
    rp_cuda_live_gather(cuda, true);
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_step_end(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_graph *g = cuda->graph;
    enum rp_status status = rp_cuda_graph_cut(cuda, err);
    if (g->mode == MODE_REPLAY && g->at != g->n) rp_cuda_graph_forget(cuda);
    rp_cuda_live_gather(cuda, false);
    g->mode = MODE_NOW;
    g->in_step = false;
    g->warm = true;
    return status;
}

/* ---- closing --------------------------------------------------------------------------------- */

void rp_cuda_graph_close(struct rp_cuda *cuda)
{
    if (!cuda->graph) return;
    rp_cuda_graph_forget(cuda);
    free(cuda->graph->segment);
    free(cuda->graph);
    cuda->graph = NULL;
}
