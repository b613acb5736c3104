/* test_owners.c - who updates what: every element has one owner, borders lie on chunks, and parts
 * updated one by one are the whole, bit for bit, digest included. */
#include "made_spec.h"

#include "base/mem.h"

static struct rp_error err;

static struct rp_plan *make_plan(const struct made *made, int ranks)
{
    struct rp_plan *plan = NULL;
    CHECK_OK(rp_plan_make_for(&made->spec, &made->data, 1, ranks, &rp_device_cpu, &plan, &err),
             &err);
    return plan;
}

/* The parts of a trained tensor follow each other and cover it; returns how many there are. */
static int check_parts(const struct rp_plan *plan, int i)
{
    int64_t at = 0, n = rp_tensor_elements(&plan->model->kept[i].shape);
    int parts = 0;
    bool written = false; /* by one of the owners */
    for (int r = 0; r < plan->ranks; r++) {
        struct rp_plan_part part = rp_plan_owned(plan, r, i);
        if (part.n == 0) continue;
        written |= plan->owners.writer[i] == r;
        CHECK_INT(part.first, at);
        CHECK_INT(part.first % RP_PLAN_CHUNK, 0);
        at += part.n;
        parts++;
    }
    CHECK_INT(at, n);
    CHECK(written);
    return parts;
}

/* Borders say in bytes what the parts say in elements. */
static void check_bytes(const struct rp_plan *plan, int rank, int i)
{
    const struct rp_plan_owners *o = &plan->owners;
    struct rp_plan_part part = rp_plan_owned(plan, rank, i);
    uint64_t first = (uint64_t)part.first * 4, end = first + (uint64_t)part.n * 4;
    uint64_t gradient = o->sum_offset[plan->model->kept[i].grad_tensor];
    bool in_gradients = false, in_kept = false;
    if (part.n == 0) return;
    for (int j = 0; j < o->n_buckets; j++) {
        const uint64_t *g = o->bucket[j].gradient + rank, *k = o->bucket[j].kept + rank;
        in_gradients |= gradient + first >= g[0] && gradient + end <= g[1];
        in_kept |= o->kept_offset[i] + first >= k[0] && o->kept_offset[i] + end <= k[1];
    }
    CHECK(in_gradients && in_kept);
}

static void test_cuts(bool muon)
{
    struct made made;
    made_lenet(&made);
    if (muon) made.spec.train.optimizer.kind = RP_OPTIMIZER_MUON;
    for (int ranks = 1; ranks <= 8; ranks *= 2) {
        struct rp_plan *plan = make_plan(&made, ranks);
        const struct rp_plan_bucket *flat = &plan->owners.bucket[0];
        int cut = 0;
        for (int i = 0; i < plan->model->n_kept; i++) {
            int parts = check_parts(plan, i);
            cut += parts > 1;
            if (plan->model->kept[i].by_muon) CHECK_INT(parts, 1);
            for (int r = 0; r < ranks; r++) check_bytes(plan, r, i);
        }
        CHECK(muon || ranks == 1 || cut > 0);
        CHECK_INT(plan->owners.reordered, muon && ranks > 1);
        for (int r = 0; r < ranks; r++) {
            int64_t chunks = flat->chunk[r + 1] - flat->chunk[r];
            int64_t share = flat->chunk[ranks] / ranks;
            CHECK(chunks == share || chunks == share + 1);
        }
        rp_plan_free(plan);
    }
}

/* What is held by rank falls with their number. */
static void test_memory(void)
{
    uint64_t held[2] = {0};
    struct made made;
    made_lenet(&made);
    for (int k = 0; k < 2; k++) {
        struct rp_plan *plan = make_plan(&made, k == 0 ? 1 : 4);
        for (int i = 0; i < plan->n_memory; i++)
            if (strcmp(plan->memory[i].what, "optimizer state") == 0)
                held[k] = plan->memory[i].bytes;
        rp_plan_free(plan);
    }
    CHECK(held[1] > 0 && held[1] < held[0] / 2);
}

/* ---- parts updated one by one -------------------------------------------------------------------
 */

enum { N = 5 * RP_PLAN_CHUNK + 77 };

struct state {
    float p[N], g[N], m[N], v[N];
    uint64_t digest;
};

static void fill(struct state *s)
{
    uint32_t x = 1;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < N; i++) {
        x = x * 1664525u + 1013904223u;
        s->p[i] = (float)(int32_t)x * 1e-9f;
        s->g[i] = (float)(int32_t)(x * 2654435761u) * 1e-10f;
        s->m[i] = s->g[i] * 0.5f;
        s->v[i] = s->g[i] * s->g[i];
    }
}

static void update(struct rp_device *device, struct state *s, int first, int n,
                   uint32_t first_chunk)
{
    static const struct rp_update scalars = {.lr = 1e-3f,
                                             .lr_decay = 1e-5f,
                                             .one_over_c1 = 1.5f,
                                             .one_over_c2 = 1.25f,
                                             .beta1 = 0.9f,
                                             .one_minus_beta1 = 0.1f,
                                             .beta2 = 0.999f,
                                             .one_minus_beta2 = 0.001f};
    struct rp_control control = {.norm = 1, .factor = 0.5f, .apply = 1};
    struct rp_pass pass = {0};
    float *tensors[] = {s->p, s->g, s->m, s->v};
    struct rp_op_call call = {.op = RP_OP_adam, .update = &scalars};
    call.params.optim = (struct rp_optim_params){
        .eps = 1e-8f, .decoupled = true, .tensor_number = 3, .first_chunk = first_chunk};
    for (int i = 0; i < 4; i++)
        call.in[i] = (struct rp_tensor){
            .data = tensors[i] + first, .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {n}};
    call.in[4] = (struct rp_tensor){
        .data = &control, .dtype = RP_DTYPE_U8, .n_dims = 1, .dims = {sizeof control}};
    call.out[0] = call.in[0];
    call.out[1] = call.in[2];
    call.out[2] = call.in[3];
    call.out[3] =
        (struct rp_tensor){.data = &s->digest, .dtype = RP_DTYPE_U64, .n_dims = 1, .dims = {1}};
    CHECK_OK(device->table->run(device, &call, &pass, &err), &err);
}

static void test_parts(void)
{
    struct rp_device_config config = {.threads = 2};
    struct rp_device *device = NULL;
    struct state *whole = RP_NEW(struct state), *parts = RP_NEW(struct state);
    CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
    fill(whole);
    update(device, whole, 0, N, 0);
    fill(parts);
    update(device, parts, 0, RP_PLAN_CHUNK, 0);
    update(device, parts, RP_PLAN_CHUNK, 3 * RP_PLAN_CHUNK, 1);
    update(device, parts, 4 * RP_PLAN_CHUNK, N - 4 * RP_PLAN_CHUNK, 4);
    CHECK(memcmp(parts, whole, sizeof *whole) == 0);

    fill(parts); /* control: the chunk numbers of the slice */
    update(device, parts, 0, RP_PLAN_CHUNK, 0);
    update(device, parts, RP_PLAN_CHUNK, N - RP_PLAN_CHUNK, 0);
    CHECK(memcmp(parts->p, whole->p, sizeof whole->p) == 0);
    CHECK(parts->digest != whole->digest);

    fill(parts); /* control: a border off by one element */
    update(device, parts, 0, RP_PLAN_CHUNK - 1, 0);
    update(device, parts, RP_PLAN_CHUNK - 1, N - RP_PLAN_CHUNK + 1, 1);
    CHECK(memcmp(parts->p, whole->p, sizeof whole->p) == 0);
    CHECK(parts->digest != whole->digest);

    fill(parts); /* control: an element that nobody owns */
    update(device, parts, 0, RP_PLAN_CHUNK, 0);
    update(device, parts, RP_PLAN_CHUNK, N - RP_PLAN_CHUNK - 1, 1);
    CHECK(parts->digest != whole->digest);
    device->table->close(device);
    rp_mem_free(parts);
    rp_mem_free(whole);
}

int main(void)
{
    test_cuts(false);
    test_cuts(true);
    test_memory();
    test_parts();
    return test_result();
}
