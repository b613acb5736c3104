/* cases_attention.c - rope, head norm and attention: one token and many, lengths beyond a panel of
 * 1024 and a block of 4096, grouped queries, dropout, odd and wide heads. */
#include "cases.h"

struct heads {
    int64_t samples, tokens;
    int heads, kv_heads, head_dim;
    float p;
};

static struct op_case *add_op(struct op_cases *cases, enum rp_op op, const struct heads *s)
{
    struct op_case *c = case_add(cases, op);
    c->slow = s->tokens > 1024;
    c->call.params.attention = (struct rp_attention_params){.heads = s->heads,
                                                            .kv_heads = s->kv_heads,
                                                            .head_dim = s->head_dim,
                                                            .rope_base = 10000,
                                                            .eps = 1e-6f,
                                                            .p = s->p,
                                                            .site = 7};
    case_set_rows(c, s->samples, 1, 1);
    return c;
}

static int64_t width(const struct heads *s)
{
    return (s->heads + 2 * s->kv_heads) * s->head_dim;
}

/* ---- rope, head norm ------------------------------------------------------------------------- */

static void add_rope(struct op_cases *cases, const struct heads *s, int64_t first)
{
    for (int i = 0; i < 2; i++) {
        struct op_case *c = add_op(cases, i == 0 ? RP_OP_rope : RP_OP_rope_dx, s);
        IN(c, 0, FILL_RANDOM, s->samples, s->tokens, width(s));
        c->pass.first_token = first;
        if (first % 2) c->call.params.attention.rope_base = 500000;
    }
}

static void add_head_norm(struct op_cases *cases, const struct heads *s, int shards, int parts)
{
    int n_heads = s->heads + s->kv_heads;
    struct op_case *c = add_op(cases, RP_OP_head_norm, s);
    IN(c, 0, FILL_RANDOM, s->samples, s->tokens, width(s));
    for (int i = 1; i <= 2; i++) IN(c, i, FILL_RANDOM, s->head_dim);

    c = add_op(cases, RP_OP_head_norm_dx, s);
    for (int i = 0; i < 2; i++) IN(c, i, FILL_RANDOM, s->samples, s->tokens, width(s));
    for (int i = 2; i <= 3; i++) IN(c, i, FILL_RANDOM, s->head_dim);
    IN(c, 4, FILL_POSITIVE, s->samples, s->tokens, n_heads);

    for (int cut = 1; cut <= parts; cut += parts > 1 ? parts - 1 : 1) {
        c = add_op(cases, RP_OP_head_norm_dg, s);
        for (int i = 0; i < 2; i++) IN(c, i, FILL_RANDOM, s->samples, s->tokens, width(s));
        IN(c, 2, FILL_POSITIVE, s->samples, s->tokens, n_heads);
        case_set_rows(c, s->samples, cut > 1 ? 1 : shards, cut);
        case_add_unwanted(cases, 1);
        case_add_unwanted(cases, 2);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static void add_attention(struct op_cases *cases, const struct heads *s, bool gradient)
{
    struct op_case *c = add_op(cases, RP_OP_attention, s);
    IN(c, 0, FILL_RANDOM, s->samples, s->tokens, width(s));
    if (!gradient) return;
    case_add_unwanted(cases, 2);
    c = add_op(cases, RP_OP_attention_dx, s);
    IN(c, 0, FILL_RANDOM, s->samples, s->tokens, s->heads * s->head_dim);
    IN(c, 1, FILL_RANDOM, s->samples, s->tokens, width(s));
    IN(c, 2, FILL_RANDOM, s->samples, s->tokens, s->heads * s->head_dim);
    IN(c, 3, FILL_POSITIVE, s->samples, s->heads, s->tokens, 2);
}

static void add_cached(struct op_cases *cases, const struct heads *s, int64_t first, int64_t places)
{
    struct op_case *c = add_op(cases, RP_OP_attention_cached, s);
    IN(c, 0, FILL_RANDOM, s->samples, s->tokens, width(s));
    IN(c, 1, FILL_RANDOM, s->samples, s->kv_heads, s->head_dim, places);
    IN(c, 2, FILL_RANDOM, s->samples, s->kv_heads, places, s->head_dim);
    c->pass.first_token = first;
}

void cases_add_attention(struct op_cases *cases)
{
    static const struct heads shapes[] = {
        {1, 1, 1, 1, 1, 0},      {2, 1, 2, 1, 8, 0.5f},    {2, 5, 2, 2, 8, 0},
        {3, 6, 4, 2, 3, 0.3f},   {1, 37, 3, 3, 16, 0.1f},  {2, 67, 4, 1, 33, 0},
        {1, 97, 2, 1, 64, 0.2f}, {1, 50, 2, 2, 128, 0},    {1, 131, 1, 1, 256, 0},
        {1, 200, 6, 3, 20, 0},   {1, 1030, 2, 1, 2, 0.1f}, {1, 2060, 1, 1, 1, 0},
    };
    static const struct heads long_row = {1, 4110, 1, 1, 2, 0};
    for (size_t i = 0; i < RP_COUNT(shapes); i++) add_attention(cases, &shapes[i], true);
    add_attention(cases, &long_row, false); /* row sums of blocks */

    static const struct heads new_tokens[] = {{1, 1, 1, 1, 1, 0},  {2, 1, 4, 2, 64, 0},
                                              {1, 7, 6, 2, 33, 0}, {3, 1, 2, 2, 128, 0},
                                              {1, 1, 2, 1, 20, 0}, {1, 40, 2, 1, 8, 0}};
    static const int64_t place[][2] = {{0, 1},       {77, 128},    {30, 37},
                                       {1029, 1111}, {4099, 4100}, {0, 64}};
    for (size_t i = 0; i < RP_COUNT(new_tokens); i++)
        add_cached(cases, &new_tokens[i], place[i][0], place[i][1]);

    static const struct heads rows[] = {{1, 1, 1, 1, 2, 0},
                                        {2, 5, 3, 1, 10, 0},
                                        {3, 9, 4, 2, 64, 0},
                                        {1, 33, 2, 2, 128, 0},
                                        {2, 70, 6, 3, 34, 0}};
    static const int64_t first[] = {0, 0, 1001, 0, 700000};
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        add_rope(cases, &rows[i], first[i]);
        add_head_norm(cases, &rows[i], 1, 1);
    }
    static const struct heads sums[] = {{8, 3, 2, 1, 5, 0},
                                        {4, 300, 4, 2, 33, 0},
                                        {7, 150, 3, 1, 16, 0},
                                        {8, 140, 4, 2, 64, 0},
                                        {8, 130, 3, 1, 128, 0}};
    add_head_norm(cases, &sums[0], 8, 3);
    add_head_norm(cases, &sums[1], 2, 3);
    add_head_norm(cases, &sums[2], 1, 7);
    add_head_norm(cases, &sums[3], 8, 1);
    add_head_norm(cases, &sums[4], 8, 1);
}

void cases_add_attention_model(struct op_cases *cases, const int64_t sizes[5])
{
    struct heads s = {sizes[0], sizes[1], (int)sizes[2], (int)sizes[3], (int)sizes[4], 0};
    add_attention(cases, &s, true);
    s.p = 0.1f;
    add_attention(cases, &s, true);
    s.p = 0;
    add_rope(cases, &s, 0);
    add_head_norm(cases, &s, 1, 1);
    s.tokens = 1;
    add_cached(cases, &s, sizes[1] - 1, sizes[1]);
}
