/* init_choose.c - a model, a batch and a length that suit the data and end in minutes on a
 * processor. */
#include "cli/init_int.h"

#include "plan/plan.h"

#include <math.h>

enum {
    TINY = 192,      /* numbers of an image that is no picture to a convolution */
    SMALL_SIDE = 64, /* pixels along the longer side up to which the CIFAR networks serve */
    EPOCHS_LEAST = 3,
    TEXT_TAKES = 3,     /* times as long as images until there is something to see */
    CONTEXTS_LEAST = 10 /* text is at least so many times as long as a window */
};
/* Two to five minutes on two cores of 2020. */
static const double flops_most = 1.0e13;

/* How long each kind of network learns on data that is easy enough for it. */
static const struct {
    double steps, epochs_most;
} lengths[] = {[INIT_MLP] = {1500, 100},
               [INIT_LENET] = {1000, 40},
               [INIT_RESNET_SMALL] = {1000, 40},
               [INIT_RESNET_LARGE] = {1000, 40},
               [INIT_GPT] = {3000, 40}};

static void choose_model(struct init *init)
{
    const struct rp_data_shape *shape = &init->shape;
    int64_t height = shape->dims[0], width = shape->dims[1], channels = shape->dims[2];
    int64_t side = height > width ? height : width, features = shape->dims[0];
    if (shape->n_dims == 3) features = height * width * channels;
    init->hidden[0] = features <= 32 ? 64 : features <= 256 ? 128 : 256;
    init->hidden[1] = features <= 256 ? 64 : 128;
    if (shape->n_dims != 3 || features <= TINY || height < 12 || width < 12)
        init->model = INIT_MLP;
    else if (channels == 1 && side <= SMALL_SIDE)
        init->model = INIT_LENET;
    else
        init->model = side <= SMALL_SIDE ? INIT_RESNET_SMALL : INIT_RESNET_LARGE;
}

/* A tenth is kept to evaluate on, and what is left must hold a window. */
enum rp_status init_choose_context(struct init *init, struct rp_error *err)
{
    static const int64_t contexts[] = {128, 64, 32, 16, 8};
    init->model = INIT_GPT;
    init->fraction = 0.1;
    for (size_t i = 0; i < RP_COUNT(contexts) && init->context == 0; i++)
        if (init->n_tokens >= contexts[i] * CONTEXTS_LEAST) init->context = contexts[i];
    if (init->context == 0)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: %lld tokens are too few to train on; some thousand are a start",
                            init->look.path[0], (long long)init->n_tokens);
    init->shape.dims[0] = init->context;
    init->shape.n_train = (init->n_tokens - init->context) / init->context;
    return RP_STATUS_OK;
}

static void choose_gpt(struct init *init)
{
    bool little = init->n_tokens < 20000;
    init->layers = little ? 2 : 4;
    init->width = little ? 64 : 128;
    init->batch = 16;
    while (init->batch > 1 && init->batch > init->shape.n_train / 2) init->batch /= 2;
}

void init_choose(struct init *init)
{
    int64_t n = init->shape.n_train;
    if (init->model == INIT_GPT) {
        choose_gpt(init);
        return;
    }
    init->fraction = n < 1000 ? 0.2 : 0.1;
    init->batch = n < 500 ? 16 : n < 5000 ? 32 : n < 50000 ? 64 : 128;
    while (init->batch > 1 && init->batch > n / 2) init->batch /= 2;
    choose_model(init);
}

static enum rp_status count_flops(const struct init *init, double *per_epoch, double *per_step,
                                  struct rp_error *err)
{
    struct rp_text text = {0};
    struct rp_spec *spec = NULL;
    struct rp_plan *plan = NULL;
    struct rp_data_shape shape = init->shape;
    init_write(init, &text);
    enum rp_status status;
    RP_TRY_GOTO(status, rp_spec_parse(init->out, rp_text_get(&text), text.length, NULL, &spec, err),
                out);
    RP_TRY_GOTO(status, rp_plan_make(spec, &shape, 1, &plan, err), out);
    *per_step = plan->flops_per_step;
    *per_epoch = plan->flops_per_step * (double)shape.n_train / (double)init->batch;
out:
    rp_plan_free(plan);
    rp_spec_free(spec);
    rp_text_release(&text);
    return status;
}

enum rp_status init_choose_length(struct init *init, struct rp_error *err)
{
    double per_epoch = 0, per_step = 0;
    init->length = 1;
    RP_TRY(count_flops(init, &per_epoch, &per_step, err));
    double epochs =
        ceil(lengths[init->model].steps * (double)init->batch / (double)init->shape.n_train);
    if (epochs < EPOCHS_LEAST) epochs = EPOCHS_LEAST;
    if (epochs > lengths[init->model].epochs_most) epochs = lengths[init->model].epochs_most;
    if (epochs * per_epoch > flops_most) epochs = floor(flops_most / per_epoch);
    init->in_steps = epochs < 1 || init->model == INIT_GPT;
    init->length = (int64_t)epochs;
    if (!init->in_steps) return RP_STATUS_OK;
    double most = init->model == INIT_GPT ? TEXT_TAKES * flops_most : flops_most;
    double steps = floor(most / per_step / 10) * 10;
    double few = floor(epochs * (double)init->shape.n_train / (double)init->batch / 10) * 10;
    if (init->model == INIT_GPT && epochs >= 1 && few < steps) steps = few;
    if (init->model == INIT_GPT && steps > lengths[INIT_GPT].steps) steps = lengths[INIT_GPT].steps;
    init->length = (int64_t)(steps < 20 ? 20 : steps);
    return RP_STATUS_OK;
}
