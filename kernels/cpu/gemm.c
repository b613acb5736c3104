/* gemm.c - the product behind linear, conv2d and their gradients: who computes which tiles.
 *
 * The outputs are cut among the threads as a grid, and a thread's part into blocks, large ones
 * first: who has finished its own takes what is left of another's, so that a thread on a processor
 * that is slow or taken away holds nobody up. A block goes through k in steps (gemm_sum.h); in each
 * step all rows of the block pass over one strip of b after another, which then lies in the L1
 * cache. What a tile must remember between steps lies in the block's state. Rows of b that are
 * dense are read where they lie. Others are packed: where several blocks need the same strips
 * before, once, by all threads together; else each strip just before its use. Of either, the next
 * strip is fetched meanwhile. No cut can be seen in the result: an output depends on its own row
 * and column only. */
#include "cpu/gemm.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "cpu/gemm_ahead.h"
#include "cpu/gemm_few.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_sum.h"

enum {
    BLOCK_TILES = 288 / TILE_M,
    BLOCK_M = BLOCK_TILES * TILE_M,
    STATE_TILES = 262144 / TILE_SIZE, /* slots of tiles in a thread's state: 1 MiB */
    PACK_ROWS_FROM = 3,               /* strips over which the packing of rows of a pays */
    PACK_NEAR_ROWS_FROM = 13,
    PACK_TILES = 2,           /* packing a tile's rows takes as long as computing so many tiles */
    SHARED_ROWS = 4 * TILE_M, /* a strip packed for all, as long as computing so many rows of it */
    ENOUGH_BLOCKS = 4,        /* along m in a thread's part */
    SHARED_FLOATS = 1 << 22,  /* of b, packed once for all threads: 16 MiB at most */
    WAYS_STRIDE = 1024,       /* floats between rows that fall into a handful of cache sets */
};

/* Tiles of so many rows wait for no b that comes from the L2 cache: they read it where it lies. */
static const bool is_tall = RP_VW == 16;

/* What one thread works in; it lies in scratch. */
struct workspace {
    _Alignas(256) float b[STEP_K * TILE_N];
    float a[BLOCK_M * STEP_K];
    float state[STATE_TILES * TILE_SIZE];
    float out[TILE_SIZE], bias[TILE_N];
    ptrdiff_t a_m[BLOCK_M], c_m[BLOCK_M], b_n[TILE_N], c_n[TILE_N];
    ptrdiff_t a_k[STEP_K], b_k[STEP_K], next_n[TILE_N];
    struct rp_gemm_ahead ahead;
    struct rp_gemm_step step;
    atomic_int_fast64_t taken; /* blocks of this thread's part that somebody has begun */
};

struct job {
    const struct rp_gemm *gemm;
    struct workspace *workspaces; /* one per thread */
    float *shared;  /* (strips, k, TILE_N) of this round, or NULL: each thread packs */
    int64_t n0, n1; /* the columns of this round */
    int n_threads;
    int grid_m, grid_n; /* threads along m and n */
    bool pack_rows;
    bool direct;     /* rows of c are dense: whole tiles are stored in place */
    bool b_in_place; /* rows of b are dense: whole strips are read where they lie */
};

struct block {
    int64_t m, n, n_m, n_n; /* outputs [m, m + n_m) x [n, n + n_n) */
    int tiles_m;
    ptrdiff_t slot; /* floats from one slot of the state to the next */
    bool keeps;     /* tiles remember something between steps */
    bool packed;    /* ws->a holds the rows already: the same as those of the block before */
};

/* What falls to one thread: outputs [m0, m1) x [n0, n1), in blocks of block_m rows. */
struct part {
    int64_t m0, m1, n0, n1, block_m;
    int64_t least_n, most_n; /* strips of a block */
    int64_t blocks_n;        /* of the same rows */
    bool keeps, one_step;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t terms_of(const struct rp_gemm *gemm)
{
    return gemm->sum.shards * gemm->sum.count;
}

/* ---- b, packed by all threads ---------------------------------------------------------------- */

static float *shared_strip(const struct job *job, int64_t n)
{
    return job->shared + (n - job->n0) * terms_of(job->gemm);
}

/* Strips are taken in turn for the same k. Where they lie side by side in b, few k at a time: each
 * row of b is then read through, whatever the distance of the rows (a power of two would put a
 * column of them into a handful of cache sets). */
static void pack_part(void *arg, int thread)
{
    const struct job *job = arg;
    const struct rp_gemm *g = job->gemm;
    struct workspace *ws = &job->workspaces[thread];
    int64_t terms = terms_of(g), strips = divide_up(job->n1 - job->n0, TILE_N), begin, end;
    int64_t chunk = g->b_n.s2 == 1 ? PACK_CHUNK : STEP_K;
    rp_pool_cut(divide_up(terms, chunk) * strips, 1, thread, job->n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t k = i / strips * chunk, n = job->n0 + i % strips * TILE_N;
        int n_k = (int)smaller(chunk, terms - k), n_columns = (int)smaller(TILE_N, job->n1 - n);
        if (i == begin || i % strips == 0) RP_ISA_NAME(rp_gemm_offsets)(&g->b_k, k, n_k, ws->b_k);
        RP_ISA_NAME(rp_gemm_offsets)(&g->b_n, n, n_columns, ws->b_n);
        int next = (int)smaller(TILE_N, job->n1 - n - TILE_N);
        if (next > 0 && chunk == STEP_K) {
            RP_ISA_NAME(rp_gemm_offsets)(&g->b_n, n + TILE_N, next, ws->next_n);
            rp_gemm_plan_ahead(&ws->ahead, g->b, ws->next_n, next, ws->b_k, n_k, 1);
            rp_gemm_fetch_ahead(&ws->ahead);
        }
        RP_ISA_NAME(rp_gemm_pack_strip)
        (g->b, ws->b_n, n_columns, ws->b_k, n_k, shared_strip(job, n) + k * TILE_N);
    }
}

/* ---- one tile -------------------------------------------------------------------------------- */

/* Copies the valid part of a tile out of ws->out. */
static void copy_out(const struct job *job, struct workspace *ws, const struct block *block,
                     int64_t m, int64_t n)
{
    const struct rp_gemm *g = job->gemm;
    int n_m = (int)smaller(TILE_M, block->n_m - m), n_n = (int)smaller(TILE_N, block->n_n - n);
    for (int j = 0; j < n_n; j++) {
        float *to = g->c + ws->c_n[j];
        for (int i = 0; i < n_m; i++) to[ws->c_m[m + i]] = ws->out[i * TILE_N + j];
    }
}

static float *state_of(struct workspace *ws, const struct block *block, int64_t m, int64_t n)
{
    int64_t tile = block->keeps ? n / TILE_N * block->tiles_m + m / TILE_M : 0;
    return ws->state + tile * TILE_SIZE;
}

/* Rows are computed in pairs: the last tile of a block has as many as it needs. `packed` is a
 * constant where this is called, and so is every height. */
RP_VEC_FN void run_tile(const struct rp_gemm_tile *tile, bool packed, int64_t rows)
{
    if (rows > 12)
        rp_gemm_tile_run(tile, packed, TILE_M);
    else if (rows > 10)
        rp_gemm_tile_run(tile, packed, TILE_M < 12 ? TILE_M : 12);
    else if (rows > 8)
        rp_gemm_tile_run(tile, packed, TILE_M < 10 ? TILE_M : 10);
    else if (rows > 6)
        rp_gemm_tile_run(tile, packed, TILE_M < 8 ? TILE_M : 8);
    else if (rows > 4)
        rp_gemm_tile_run(tile, packed, 6);
    else if (rows > 2)
        rp_gemm_tile_run(tile, packed, 4);
    else
        rp_gemm_tile_run(tile, packed, 2);
}

/* Whole tiles go to their place, others to ws->out first. */
static void point_outputs(struct rp_gemm_tile *tile, struct workspace *ws, float *c, bool in_place,
                          int64_t m)
{
    for (int i = 0; i < TILE_M; i++)
        tile->c[i] = in_place ? c + ws->c_m[m + i] : ws->out + i * TILE_N;
}

/* Stores to lines that are in no cache yet wait for each other: they are called before the tile is
 * computed. */
static void fetch_outputs(const struct rp_gemm_tile *tile)
{
    for (int i = 0; i < TILE_M; i++)
        for (int j = 0; j < TILE_N; j += RP_AHEAD_LINE) __builtin_prefetch(tile->c[i] + j, 1, 3);
}

/* A block of rows over one strip of b, whose rows are b_step apart. m and n count from the block's
 * corner. */
static void run_strip(const struct job *job, struct workspace *ws, const struct block *block,
                      int64_t n, const float *b, ptrdiff_t b_step)
{
    const struct rp_gemm *g = job->gemm;
    const struct rp_gemm_step *step = &ws->step;
    bool whole_strip = n + TILE_N <= block->n_n;
    struct rp_gemm_tile tile = {
        .a_k = ws->a_k, .b = b, .b_step = b_step, .piece = step->piece, .n_pieces = step->n_pieces};
    tile.bias = g->bias ? ws->bias : NULL;
    tile.slot = block->slot;
    for (int64_t m = 0; m < block->n_m; m += TILE_M) {
        bool in_place = job->direct && whole_strip && m + TILE_M <= block->n_m;
        if (step->last) point_outputs(&tile, ws, g->c + ws->c_n[0], in_place, m);
        if (step->last && in_place) fetch_outputs(&tile);
        tile.state = state_of(ws, block, m, n);
        rp_gemm_fetch_ahead(&ws->ahead);
        if (job->pack_rows) {
            tile.a[0] = ws->a + m * step->n_k;
            run_tile(&tile, true, block->n_m - m);
        } else {
            for (int i = 0; i < TILE_M; i++) tile.a[i] = g->a + ws->a_m[m + i];
            run_tile(&tile, false, block->n_m - m);
        }
        if (step->last && !in_place) copy_out(job, ws, block, m, n);
    }
}

/* ---- parts of a shard ------------------------------------------------------------------------ */

/* Moves one slot of every tile of the block between its state and a matrix like c: a row of a tile
 * at a time. */
static void move_slot(const struct job *job, struct workspace *ws, const struct block *block,
                      int slot, float *c, bool out)
{
    for (int64_t n = 0; n < block->n_n; n += TILE_N) {
        int n_columns = (int)smaller(TILE_N, block->n_n - n);
        RP_ISA_NAME(rp_gemm_offsets)(&job->gemm->c_n, block->n + n, n_columns, ws->c_n);
        for (int64_t m = 0; m < block->n_m; m++) {
            float *at = state_of(ws, block, m, n) + slot * block->slot + m % TILE_M * TILE_N;
            float *row = c + ws->c_m[m];
            if (job->direct && out)
                memcpy(row + ws->c_n[0], at, (size_t)n_columns * sizeof *at);
            else if (job->direct)
                memcpy(at, row + ws->c_n[0], (size_t)n_columns * sizeof *at);
            else if (out)
                for (int j = 0; j < n_columns; j++) row[ws->c_n[j]] = at[j];
            else
                for (int j = 0; j < n_columns; j++) at[j] = row[ws->c_n[j]];
        }
    }
}

static void take_up(const struct job *job, struct workspace *ws, const struct block *block)
{
    const struct rp_gemm *g = job->gemm;
    if (rp_gemm_finds_chain(&g->sum)) move_slot(job, ws, block, SLOT_CHAIN, g->chain, false);
    if (rp_gemm_finds_sum(&g->sum)) move_slot(job, ws, block, SLOT_SUM, g->c, false);
}

static void leave_open(const struct job *job, struct workspace *ws, const struct block *block)
{
    const struct rp_gemm *g = job->gemm;
    if (rp_gemm_leaves_chain(&g->sum)) move_slot(job, ws, block, SLOT_CHAIN, g->chain, true);
    if (rp_gemm_leaves_sum(&g->sum)) move_slot(job, ws, block, SLOT_SUM, g->c, true);
}

/* ---- one block ------------------------------------------------------------------------------- */

/* The strip that follows, of the same k, is fetched while the tiles of this one are computed. */
static void look_ahead(const struct job *job, struct workspace *ws, const struct block *block,
                       int64_t n)
{
    const struct rp_gemm *g = job->gemm;
    ws->ahead.n_lines = ws->ahead.line = 0;
    if (g->near_b || n >= block->n_n || ws->step.n_k == 0) return;
    int n_columns = (int)smaller(TILE_N, block->n_n - n);
    RP_ISA_NAME(rp_gemm_offsets)(&g->b_n, block->n + n, n_columns, ws->next_n);
    rp_gemm_plan_ahead(&ws->ahead, g->b, ws->next_n, n_columns, ws->b_k, ws->step.n_k,
                       block->tiles_m);
}

/* Rows past the last repeat it: their tiles are computed and not stored. */
static void fill_rows(const struct rp_gemm *g, struct workspace *ws, const struct block *block)
{
    int n = (int)block->n_m, padded = block->tiles_m * TILE_M;
    RP_ISA_NAME(rp_gemm_offsets)(&g->a_m, block->m, n, ws->a_m);
    RP_ISA_NAME(rp_gemm_offsets)(&g->c_m, block->m, n, ws->c_m);
    for (int i = n; i < padded; i++) ws->a_m[i] = ws->a_m[n - 1], ws->c_m[i] = ws->c_m[n - 1];
}

/* Where a block finds rows of the strip at column n for the k of this step, *step floats apart. */
static const float *find_strip(const struct job *job, struct workspace *ws,
                               const struct block *block, int64_t n, ptrdiff_t *step)
{
    const struct rp_gemm *g = job->gemm;
    int n_columns = (int)smaller(TILE_N, block->n_n - n);
    *step = TILE_N;
    if (job->shared) {
        static const ptrdiff_t whole = 0; /* packed, it is one run */
        const float *strip = shared_strip(job, block->n + n) + ws->step.k * TILE_N;
        if (n + TILE_N < block->n_n)
            rp_gemm_plan_runs_ahead(&ws->ahead, strip + terms_of(g) * TILE_N, &whole, 1,
                                    ws->step.n_k * TILE_N, block->tiles_m);
        return strip;
    }
    if (ws->ahead.n_lines > 0)
        memcpy(ws->b_n, ws->next_n, sizeof ws->b_n);
    else
        RP_ISA_NAME(rp_gemm_offsets)(&g->b_n, block->n + n, n_columns, ws->b_n);
    look_ahead(job, ws, block, n + TILE_N);
    if (job->b_in_place && n_columns == TILE_N && ws->step.n_k > 0) {
        *step = g->b_k.s2;
        return g->b + ws->b_n[0] + ws->b_k[0];
    }
    RP_ISA_NAME(rp_gemm_pack_strip)(g->b, ws->b_n, n_columns, ws->b_k, ws->step.n_k, ws->b);
    return ws->b;
}

static void run_step(const struct job *job, struct workspace *ws, const struct block *block)
{
    const struct rp_gemm *g = job->gemm;
    const struct rp_gemm_step *step = &ws->step;
    RP_ISA_NAME(rp_gemm_offsets)(&g->a_k, step->k, step->n_k, ws->a_k);
    if (job->pack_rows && !block->packed) RP_ISA_NAME(rp_gemm_pack_rows)
    (g->a, ws->a_m, block->tiles_m * TILE_M, ws->a_k, step->n_k, ws->a);
    ws->ahead.n_lines = ws->ahead.line = 0;
    if (!job->shared) RP_ISA_NAME(rp_gemm_offsets)(&g->b_k, step->k, step->n_k, ws->b_k);
    for (int64_t n = 0; n < block->n_n; n += TILE_N) {
        int n_columns = (int)smaller(TILE_N, block->n_n - n);
        ptrdiff_t b_step;
        const float *b = find_strip(job, ws, block, n, &b_step);
        RP_ISA_NAME(rp_gemm_offsets)(&g->c_n, block->n + n, n_columns, ws->c_n);
        if (g->bias) memcpy(ws->bias, g->bias + block->n + n, (size_t)n_columns * sizeof(float));
        run_strip(job, ws, block, n, b, b_step);
    }
}

static void run_block(const struct job *job, struct workspace *ws, struct block *block)
{
    const struct rp_gemm *g = job->gemm;
    block->tiles_m = (int)divide_up(block->n_m, TILE_M);
    fill_rows(g, ws, block);
    RP_ISA_NAME(rp_gemm_step_first)(&g->sum, job->pack_rows, &ws->step);
    block->slot =
        block->keeps ? divide_up(block->n_n, TILE_N) * block->tiles_m * TILE_SIZE : TILE_SIZE;
    take_up(job, ws, block);
    do run_step(job, ws, block);
    while (RP_ISA_NAME(rp_gemm_step_next)(&g->sum, &ws->step));
    leave_open(job, ws, block);
}

/* ---- a thread's part, and those of others ---------------------------------------------------- */

/* Strips of the block that begins at column n: half of what is left, so that there are few blocks
 * and yet little is left to wait for in the end. */
static int64_t strips_from(const struct part *part, int64_t n)
{
    int64_t strips = divide_up(divide_up(part->n1 - n, TILE_N), 2);
    if (strips < part->least_n) strips = part->least_n;
    return smaller(strips, part->most_n);
}

/* Tiles along m, at most `most`, of a block of which state holds `room` tiles. A wide block packs
 * its rows for many strips, a high one brings each strip into the L1 cache for many tiles; of all
 * widths into which the columns can be cut, the one where both together cost a tile the least. */
static int64_t height_of(const struct job *job, int64_t most, int64_t tiles_n, int64_t room)
{
    int64_t best = most;
    double least = INFINITY, pack = job->pack_rows ? PACK_TILES : 0;
    for (int64_t cuts = 1, height = 0; cuts <= tiles_n && height < most; cuts++) {
        int64_t width = divide_up(tiles_n, cuts);
        height = smaller(most, room / width);
        if (height == 0) continue;
        double cost = pack / (double)width + 1 / (double)height;
        if (cost >= least) continue;
        least = cost;
        best = height;
    }
    return best;
}

/* Blocks of about equal height with as many tiles as state holds. They are cut further along n
 * where a part has few and their rows need not be packed once more for it. */
static struct part find_part(const struct job *job, int owner, const struct rp_gemm_step *first)
{
    const struct rp_gemm *g = job->gemm;
    struct part part = {.one_step = first->last, .keeps = !first->last || g->chain};
    rp_pool_cut(g->m, 2, owner / job->grid_n, job->grid_m, &part.m0, &part.m1);
    rp_pool_cut(job->n1 - job->n0, TILE_N, owner % job->grid_n, job->grid_n, &part.n0, &part.n1);
    part.n0 += job->n0, part.n1 += job->n0;
    int slots = RP_ISA_NAME(rp_gemm_slots)(&g->sum);
    int64_t tiles_m = divide_up(part.m1 - part.m0, TILE_M);
    int64_t tiles_n = divide_up(part.n1 - part.n0, TILE_N);
    if (tiles_m == 0 || tiles_n == 0) return part;
    int64_t room = STATE_TILES / slots, most_m = smaller(smaller(BLOCK_TILES, room), tiles_m);
    if (part.keeps) most_m = height_of(job, most_m, tiles_n, room);
    int64_t blocks_m = divide_up(tiles_m, most_m);
    int64_t tiles = divide_up(tiles_m, blocks_m);
    part.block_m = tiles * TILE_M;
    int64_t room_n = part.keeps ? room / tiles : tiles_n;
    part.most_n = divide_up(tiles_n, divide_up(tiles_n, room_n));
    bool packs_again = job->pack_rows && !part.one_step;
    bool cut = job->n_threads > 1 && blocks_m < ENOUGH_BLOCKS && !packs_again;
    part.least_n = cut ? 1 : part.most_n;
    for (int64_t n = part.n0; n < part.n1; n += strips_from(&part, n) * TILE_N) part.blocks_n++;
    return part;
}

/* Block `number` of the part, those of the same rows one after another; false past the last. */
static bool find_block(const struct part *part, int64_t number, struct block *block)
{
    if (part->blocks_n == 0) return false;
    int64_t m = part->m0 + number / part->blocks_n * part->block_m, n = part->n0;
    if (m >= part->m1) return false;
    for (int64_t i = number % part->blocks_n; i > 0; i--) n += strips_from(part, n) * TILE_N;
    *block = (struct block){.m = m,
                            .n = n,
                            .n_m = smaller(part->block_m, part->m1 - m),
                            .n_n = smaller(strips_from(part, n) * TILE_N, part->n1 - n),
                            .keeps = part->keeps};
    return true;
}

/* The own part first, then what is left of the others'. */
static void run_parts(void *arg, int thread)
{
    const struct job *job = arg;
    struct workspace *ws = &job->workspaces[thread];
    int n_parts = job->grid_m * job->grid_n;
    struct block block;
    int64_t packed_m = -1;
    for (int i = 0; i < n_parts; i++) {
        int owner = (thread + i) % n_parts;
        atomic_int_fast64_t *taken = &job->workspaces[owner].taken;
        RP_ISA_NAME(rp_gemm_step_first)(&job->gemm->sum, job->pack_rows, &ws->step);
        struct part part = find_part(job, owner, &ws->step);
        while (find_block(&part, atomic_fetch_add(taken, 1), &block)) {
            block.packed = part.one_step && block.m == packed_m;
            packed_m = block.m;
            run_block(job, ws, &block);
        }
    }
}

/* ---- the cut --------------------------------------------------------------------------------- */

/* Strips of b are packed once for all threads where several blocks would pack the same ones. */
static bool packs_for_all(const struct job *job, int grid_m, int64_t columns)
{
    bool used_once = grid_m == 1 && job->gemm->m <= BLOCK_M;
    return columns > 0 && !job->b_in_place && !used_once;
}

/* The grid of threads with the least work for the one that has the most: its rows of each strip,
 * about a tile of them more for every strip, which each row of the grid visits again, the rows
 * themselves where they are packed, which each of its columns does again, and its share of strips
 * packed for all. `columns` at once, or 0. */
static void choose_grid(struct job *job, int64_t columns)
{
    int64_t pairs_m = divide_up(job->gemm->m, 2), least = INT64_MAX;
    int64_t strips = divide_up(columns > 0 ? columns : job->gemm->n, TILE_N);
    for (int grid_m = 1; grid_m <= job->n_threads; grid_m++) {
        int grid_n = job->n_threads / grid_m;
        int64_t part_m = 2 * divide_up(pairs_m, grid_m), part_n = divide_up(strips, grid_n);
        int64_t work = part_m * part_n + TILE_M * part_n + (job->pack_rows ? part_m : 0);
        if (packs_for_all(job, grid_m, columns))
            work += SHARED_ROWS * divide_up(strips, job->n_threads);
        if (work >= least) continue;
        least = work;
        job->grid_m = grid_m;
        job->grid_n = grid_n;
    }
}

static bool is_dense(const struct rp_gemm_axis *axis, int64_t n)
{
    return axis->s2 == 1 && axis->n2 >= n;
}

static bool is_b_in_place(const struct rp_gemm *gemm)
{
    return is_tall && is_dense(&gemm->b_n, gemm->n) && gemm->b_k.n2 >= terms_of(gemm) &&
           gemm->b_k.s2 % WAYS_STRIDE != 0;
}

/* Columns of b that are packed in one round, a multiple of TILE_N; 0 where one strip is too long.
 */
static int64_t columns_at_once(const struct rp_gemm *gemm)
{
    int64_t terms = terms_of(gemm), strips = divide_up(gemm->n, TILE_N);
    int64_t room = SHARED_FLOATS / TILE_N / (terms > 0 ? terms : 1);
    if (room == 0 || strips == 0 || gemm->near_b) return 0;
    return divide_up(strips, divide_up(strips, room)) * TILE_N;
}

static size_t shared_bytes(const struct rp_gemm *gemm)
{
    return RP_GEMM_ROUND((size_t)(columns_at_once(gemm) * terms_of(gemm)) * sizeof(float));
}

void RP_ISA_NAME(rp_gemm_run)(struct rp_cpu *cpu, const struct rp_gemm *gemm,
                              unsigned char *scratch)
{
    struct job job = {.gemm = gemm, .n_threads = rp_pool_threads(cpu->pool)};
    if (gemm->m == 0 || gemm->n == 0) return;
    if (RP_ISA_NAME(rp_gemm_few)(cpu, gemm)) return;
    job.direct = is_dense(&gemm->c_n, gemm->n);
    job.b_in_place = is_b_in_place(gemm);
    job.pack_rows =
        divide_up(gemm->n, TILE_N) >= (gemm->near_a ? PACK_NEAR_ROWS_FROM : PACK_ROWS_FROM);
    job.workspaces = (struct workspace *)(scratch + shared_bytes(gemm));
    int64_t columns = columns_at_once(gemm);
    choose_grid(&job, columns);
    if (packs_for_all(&job, job.grid_m, columns))
        job.shared = (float *)scratch;
    else
        columns = gemm->n;
    for (job.n0 = 0; job.n0 < gemm->n; job.n0 += columns) {
        job.n1 = smaller(job.n0 + columns, gemm->n);
        if (job.shared) rp_pool_run(cpu->pool, job.n_threads, pack_part, &job);
        for (int i = 0; i < job.n_threads; i++) atomic_init(&job.workspaces[i].taken, 0);
        rp_pool_run(cpu->pool, job.n_threads, run_parts, &job);
    }
}

size_t RP_ISA_NAME(rp_gemm_scratch)(const struct rp_gemm *gemm, int n_threads)
{
    return shared_bytes(gemm) + sizeof(struct workspace) * (size_t)n_threads;
}
