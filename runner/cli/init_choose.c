/* init_choose.c - a model, a batch and a length that suit the data and end in minutes on a
 * processor. */
#include "cli/init_int.h"

#include "plan/plan.h"

#include <math.h>

enum {
    TINY = 192,      /* numbers of an image that is no picture to a convolution */
    SMALL_SIDE = 64, /* pixels along the longer side up to which the CIFAR networks serve */
    EPOCHS_LEAST = 3
};
/* Two to five minutes on two cores of 2020. */
static const double flops_most = 1.0e13;

/* How long each kind of network learns on data that is easy enough for it. */
static const struct {
    double steps, epochs_most;
} lengths[] = {[INIT_MLP] = {1500, 100},
               [INIT_LENET] = {1000, 40},
               [INIT_RESNET_SMALL] = {1000, 40},
               [INIT_RESNET_LARGE] = {1000, 40}};

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

void init_choose(struct init *init)
{
    int64_t n = init->shape.n_train;
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
    init->in_steps = epochs < 1;
    init->length = (int64_t)epochs;
    if (!init->in_steps) return RP_STATUS_OK;
    double steps = floor(flops_most / per_step / 10) * 10;
    init->length = (int64_t)(steps < 20 ? 20 : steps);
    return RP_STATUS_OK;
}
