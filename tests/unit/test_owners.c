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

/* ---- buckets --------------------------------------------------------------------------------- */

/* Each byte of the gradients leaves once, when everything that writes it has run. */
static void check_exchanges(const struct rp_plan *plan)
{
    const struct rp_plan_owners *o = &plan->owners;
    const struct rp_graph *graph = &plan->model->train;
    unsigned char *left = rp_mem_new(o->shared_sums + 1);
    int end = 0;
    memset(left, 0, o->shared_sums + 1);
    for (int j = 0; j < o->n_exchanges; j++) {
        const struct rp_plan_exchange *e = &o->exchange[j];
        if (j > 0) CHECK(e->after >= e[-1].after);
        for (uint64_t b = e->border[0]; b < e->border[o->ranks]; b++) end += left[b]++;
        for (int i = 0; i < plan->model->n_kept; i++) {
            uint64_t at = o->sum_offset[plan->model->kept[i].grad_tensor];
            if (at < e->border[0] || at >= e->border[o->ranks]) continue;
            for (int n = e->after + 1; n < graph->n_nodes; n++)
                for (int k = 0; k < RP_OP_MAX_OUT; k++)
                    CHECK(graph->node[n].out[k] != plan->model->kept[i].grad_tensor);
        }
    }
    CHECK_INT(end, 0);
    CHECK(memchr(left, 0, o->shared_sums) == NULL);
    rp_mem_free(left);
}

/* The chunks of the norm lie by owner and none lies twice. */
static void check_norm(const struct rp_plan *plan)
{
    const struct rp_plan_owners *o = &plan->owners;
    bool *taken = RP_NEW_ARRAY(bool, o->n_chunks);
    for (int i = 0; i < plan->model->n_kept; i++) {
        for (int r = 0; r < plan->ranks; r++) {
            int64_t n = rp_plan_chunks(rp_plan_owned(plan, r, i).n);
            for (int64_t c = 0; c < n; c++) {
                int64_t at = rp_plan_norm_chunk(plan, r, i) + c;
                CHECK((uint64_t)at * 8 >= o->norm[r] && (uint64_t)at * 8 < o->norm[r + 1]);
                CHECK(!taken[at]);
                taken[at] = true;
            }
        }
    }
    CHECK_INT(o->norm[plan->ranks], o->n_chunks * 8);
    CHECK(memchr(taken, 0, (size_t)o->n_chunks) == NULL);
    rp_mem_free(taken);
}

static void test_buckets(bool muon, const char *bytes)
{
    struct made made;
    made_lenet(&made);
    if (muon) made.spec.train.optimizer.kind = RP_OPTIMIZER_MUON;
    setenv("REPRISE_BUCKET_BYTES", bytes, 1);
    for (int ranks = 2; ranks <= 8; ranks *= 2) {
        struct rp_plan *plan = make_plan(&made, ranks);
        const struct rp_plan_owners *o = &plan->owners;
        CHECK(o->n_buckets > (muon ? 2 : 1) || (muon && ranks == 8));
        CHECK_INT(o->n_exchanges, o->n_buckets);
        CHECK(o->reordered);
        for (int i = 0; i < plan->model->n_kept; i++) {
            int parts = check_parts(plan, i);
            if (plan->model->kept[i].by_muon) CHECK_INT(parts, 1);
            for (int r = 0; r < ranks; r++) check_bytes(plan, r, i);
        }
        for (int j = 0; j < o->n_buckets; j++)
            for (int r = 0; !o->bucket[j].whole && r < ranks; r++) {
                int64_t chunks = o->bucket[j].chunk[r + 1] - o->bucket[j].chunk[r];
                int64_t share = (o->bucket[j].chunk[ranks] - o->bucket[j].chunk[0]) / ranks;
                CHECK(chunks == share || chunks == share + 1);
            }
        check_exchanges(plan);
        check_norm(plan);
        rp_plan_free(plan);
    }
    unsetenv("REPRISE_BUCKET_BYTES");
}

static struct rp_sha256 digest_of(const struct made *made, int ranks, const char *bytes)
{
    setenv("REPRISE_BUCKET_BYTES", bytes, 1);
    struct rp_plan *plan = make_plan(made, ranks);
    struct rp_sha256 digest = rp_plan_exchange_digest(plan);
    rp_plan_free(plan);
    unsetenv("REPRISE_BUCKET_BYTES");
    return digest;
}

/* What the ranks compare tells other buckets apart. */
static void test_exchange_digest(void)
{
    struct made made;
    made_lenet(&made);
    struct rp_sha256 small = digest_of(&made, 2, "1000"), again = digest_of(&made, 2, "1000");
    struct rp_sha256 larger = digest_of(&made, 2, "10000"), four = digest_of(&made, 4, "1000");
    CHECK(memcmp(&small, &again, sizeof small) == 0);
    CHECK(memcmp(&small, &larger, sizeof small) != 0);
    CHECK(memcmp(&small, &four, sizeof small) != 0);
}

static void test_sizes_that_are_none(void)
{
    static const char *const wrong[] = {"0", "-1", "1k", " 1", "x"};
    struct made made;
    struct rp_plan *plan = NULL;
    made_lenet(&made);
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        setenv("REPRISE_BUCKET_BYTES", wrong[i], 1);
        enum rp_status status =
            rp_plan_make_for(&made.spec, &made.data, 1, 2, &rp_device_cpu, &plan, &err);
        CHECK_INT(status, RP_STATUS_USAGE);
        CHECK(strstr(err.text, "REPRISE_BUCKET_BYTES"));
        rp_error_clear(&err);
    }
    unsetenv("REPRISE_BUCKET_BYTES");
}

/* Tensors that all own of are written by one after another, not all by the first. */
static void test_writers(void)
{
    struct made made;
    int writes[4] = {0};
    made_init(&made, 28, 28, 1);
    made_add(&made, RP_LAYER_FLATTEN);
    for (int i = 0; i < 8; i++) made_linear(&made, 256);
    made_linear(&made, 10);
    setenv("REPRISE_BUCKET_BYTES", "1", 1);
    struct rp_plan *plan = make_plan(&made, 4);
    for (int i = 0; i < plan->model->n_kept; i++)
        if (plan->model->kept[i].shape.n_dims == 2) writes[plan->owners.writer[i]]++;
    for (int r = 0; r < 4; r++) CHECK(writes[r] >= 1 && writes[r] <= 4);
    rp_plan_free(plan);
    unsetenv("REPRISE_BUCKET_BYTES");
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

/* ---- parts updated one by one ---------------------------------------------------------------- */

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
    test_buckets(false, "1");
    test_buckets(false, "40000");
    test_buckets(true, "1");
    test_exchange_digest();
    test_sizes_that_are_none();
    test_writers();
    test_memory();
    test_parts();
    return test_result();
}
