/* cases_lm_loss.c - the fused head and loss of a language model: rows kept and made again, blocks
 * of classes, more classes than a panel of 1024 and a block of 4096, parts of a shard. */
#include "cases.h"

struct head {
    int64_t n, t, width, classes, kept; /* kept: rows of logits, 0: the shape function's choice */
    int columns, shards, parts;
};

static struct op_case *add_op(struct op_cases *cases, enum rp_op op, const struct head *s,
                              float smoothing)
{
    struct op_case *c = case_add(cases, op);
    IN(c, 0, FILL_RANDOM, s->n, s->t, s->width);
    IN(c, 1, FILL_RANDOM, s->classes, s->width);
    IN(c, 2, FILL_TOKENS, s->n, s->t);
    c->classes = s->classes;
    c->whole = 1 << 1;
    c->call.params.loss =
        (struct rp_loss_params){.label_smoothing = smoothing, .columns = s->columns};
    case_set_rows(c, s->n, s->shards, 1);
    return c;
}

static void add_lm_loss(struct op_cases *cases, const struct head *s, float smoothing)
{
    struct op_case *c = add_op(cases, RP_OP_lm_loss, s, smoothing);
    if (s->kept) OUT(c, 3, s->kept, s->classes);
    case_add_unwanted(cases, 1 << 2 | 1 << 3); /* evaluation */

    for (int cut = 1; cut <= s->parts; cut += s->parts > 1 ? s->parts - 1 : 1) {
        c = add_op(cases, RP_OP_lm_loss_dxw, s, smoothing);
        IN(c, 3, FILL_POSITIVE, s->n * s->t, 2);
        /* Each part keeps the logits of all its rows: random ones are none that it could make. */
        IN(c, 4, FILL_RANDOM, cut > 1 || !s->kept ? s->n * s->t : s->kept, s->classes);
        case_set_rows(c, s->n, cut > 1 ? 1 : s->shards, cut);
        if (smoothing != 0) continue;
        case_add_unwanted(cases, 1 << 0);
        case_add_unwanted(cases, 1 << 1);
    }
}

void cases_add_lm_loss(struct op_cases *cases)
{
    static const struct head shapes[] = {
        {1, 1, 1, 1, 0, 0, 1, 1},       {2, 3, 5, 7, 1, 0, 2, 2},
        {8, 2, 3, 65, 5, 0, 4, 3},      {3, 7, 33, 256, 8, 0, 1, 3},
        {4, 5, 9, 1030, 6, 1024, 2, 2}, {2, 9, 16, 5000, 7, 2048, 2, 2},
        {5, 230, 4, 70, 1000, 0, 1, 2}, {1, 5, 1030, 40, 2, 0, 1, 1},
        {4, 25, 2, 30, 40, 0, 2, 3},    {4, 20, 9, 1030, 50, 1024, 2, 1},
    };
    for (size_t i = 0; i < RP_COUNT(shapes); i++)
        for (int smooth = 0; smooth < 2; smooth++)
            add_lm_loss(cases, &shapes[i], smooth ? 0.1f : 0);
}

void cases_add_lm_loss_model(struct op_cases *cases, const int64_t sizes[5])
{
    struct head s = {.n = sizes[0],
                     .t = sizes[1],
                     .width = sizes[2],
                     .classes = sizes[3],
                     .kept = sizes[4],
                     .shards = 8};
    add_op(cases, RP_OP_lm_loss, &s, 0);
    struct op_case *c = add_op(cases, RP_OP_lm_loss_dxw, &s, 0);
    IN(c, 3, FILL_POSITIVE, s.n * s.t, 2);
    IN(c, 4, FILL_RANDOM, s.kept, s.classes);
}
