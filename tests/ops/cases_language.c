/* cases_language.c - rms norm, embeddings, swiglu, the head of a language model: one token and
 * many, tokens that are absent, tables larger than a pass, rows of logits kept or made again. */
#include "cases.h"

/* ---- rms norm -------------------------------------------------------------------------------- */

static void add_rms_norm(struct op_cases *cases, int64_t n, int64_t t, int64_t width, int parts)
{
    struct rp_norm_params params = {.eps = 1e-6f};
    struct op_case *c = case_add(cases, RP_OP_rms_norm);
    IN(c, 0, FILL_RANDOM, n, t, width);
    IN(c, 1, FILL_RANDOM, width);
    c->call.params.norm = params;
    case_set_rows(c, n, 1, 1);

    c = case_add(cases, RP_OP_rms_norm_dx);
    IN(c, 0, FILL_RANDOM, n, t, width);
    IN(c, 1, FILL_RANDOM, n, t, width);
    IN(c, 2, FILL_RANDOM, width);
    IN(c, 3, FILL_POSITIVE, n * t);
    case_set_rows(c, n, 1, 1);

    for (int cut = 1; cut <= parts; cut += parts > 1 ? parts - 1 : 1) {
        c = case_add(cases, RP_OP_rms_norm_dg);
        IN(c, 0, FILL_RANDOM, n, t, width);
        IN(c, 1, FILL_RANDOM, n, t, width);
        IN(c, 2, FILL_POSITIVE, n * t);
        case_set_rows(c, n, cut == 1 && n % 4 == 0 ? 4 : 1, cut);
    }
}

/* ---- embeddings, swiglu --------------------------------------------------------------------- */

/* `first`: of the sequence, with as many more positions. */
static void add_embedding(struct op_cases *cases, int64_t n, int64_t t, int64_t ids, int64_t width,
                          int64_t first)
{
    for (int positions = 0; positions < 2; positions++) {
        struct op_case *c = case_add(cases, RP_OP_embedding);
        IN(c, 0, FILL_TARGETS, n, t);
        IN(c, 1, FILL_RANDOM, ids, width);
        if (positions) IN(c, 2, FILL_RANDOM, first + t, width);
        c->classes = ids;
        c->pass.first_token = first;
        case_set_rows(c, n, 1, 1);
    }
}

static void add_embedding_dw(struct op_cases *cases, int64_t n, int64_t t, int64_t ids,
                             int64_t width, int shards, int parts)
{
    for (int cut = 1; cut <= parts; cut += parts > 1 ? parts - 1 : 1) {
        struct op_case *c = case_add(cases, RP_OP_embedding_dw);
        IN(c, 0, FILL_RANDOM, n, t, width);
        IN(c, 1, FILL_TARGETS, n, t);
        OUT(c, 0, ids, width);
        c->classes = ids;
        case_set_rows(c, n, cut > 1 ? 1 : shards, cut);
        c = case_add(cases, RP_OP_position_dw);
        IN(c, 0, FILL_RANDOM, n, t, width);
        case_set_rows(c, n, cut > 1 ? 1 : shards, cut);
    }
}

static void add_swiglu(struct op_cases *cases, int64_t n, int64_t t, int64_t half)
{
    struct op_case *c = case_add(cases, RP_OP_swiglu);
    IN(c, 0, FILL_RANDOM, n, t, 2 * half);
    case_set_rows(c, n, 1, 1);
    c = case_add(cases, RP_OP_swiglu_dx);
    IN(c, 0, FILL_RANDOM, n, t, half);
    IN(c, 1, FILL_RANDOM, n, t, 2 * half);
    case_set_rows(c, n, 1, 1);
}

static void add_small_cases(struct op_cases *cases)
{
    static const int64_t embeddings[][5] = {/* samples, tokens, ids, width, first token */
                                            {1, 1, 1, 1, 0},
                                            {3, 5, 7, 13, 0},
                                            {4, 33, 50, 64, 2},
                                            {2, 100, 1000, 130, 0}};
    for (size_t i = 0; i < RP_COUNT(embeddings); i++) {
        const int64_t *s = embeddings[i];
        add_embedding(cases, s[0], s[1], s[2], s[3], s[4]);
    }
    static const int64_t gradients[][6] = {
        /* samples, tokens, ids, width, shards, parts */
        {1, 1, 1, 1, 1, 1},       {8, 5, 7, 13, 8, 3},    {16, 7, 300, 65, 8, 5},
        {8, 300, 3, 33, 2, 8},    {9, 256, 11, 70, 1, 9}, {1100, 2, 40, 17, 1, 4},
        {4, 1025, 2, 20, 4, 2},   {8, 1024, 5, 16, 1, 3}, {32, 1, 12, 9, 32, 2},
        {6, 100, 2000, 40, 1, 4}, {32, 9, 60, 36, 32, 3}, {64, 4, 30, 32, 64, 1},
        {16, 90, 20, 132, 8, 5}};
    for (size_t i = 0; i < RP_COUNT(gradients); i++) {
        const int64_t *s = gradients[i];
        add_embedding_dw(cases, s[0], s[1], s[2], s[3], (int)s[4], (int)s[5]);
    }
    static const int64_t norms[][4] = {
        {1, 1, 1, 1},     {4, 3, 31, 2},   {5, 1, 33, 5},   {4, 300, 96, 2}, {1, 2, 4097, 1},
        {2, 1, 10000, 2}, {1100, 1, 9, 3}, {16, 7, 200, 2}, {5, 1, 3072, 1}, {3, 1, 257, 1},
        {2, 1, 1031, 1},  {1, 2, 8192, 1}, {1, 2, 8200, 1}};
    for (size_t i = 0; i < RP_COUNT(norms); i++)
        add_rms_norm(cases, norms[i][0], norms[i][1], norms[i][2], (int)norms[i][3]);
    static const int64_t gates[][3] = {
        {1, 1, 1}, {3, 5, 7}, {2, 4, 64}, {5, 1, 1003}, {2, 3, 6000}};
    for (size_t i = 0; i < RP_COUNT(gates); i++)
        add_swiglu(cases, gates[i][0], gates[i][1], gates[i][2]);
}

/* ---- all ------------------------------------------------------------------------------------- */

void cases_add_language(struct op_cases *cases)
{
    add_small_cases(cases);
}

void cases_add_language_model(struct op_cases *cases, int64_t texts, int64_t context,
                              int64_t vocabulary, int64_t width)
{
    add_embedding(cases, texts, context, vocabulary, width, 0);
    add_embedding_dw(cases, texts, context, vocabulary, width, 8, 1);
    add_rms_norm(cases, texts, context, width, 1);
    add_swiglu(cases, texts, context, 4 * width);
}
