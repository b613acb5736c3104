/* logits - what a language model of a run expects after each of some tokens, for the twin of
 * tests/train/test_huggingface.py.
 *
 *     logits RUN TOKEN...     a line of logits in hexadecimal for each token */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "env/env.h"
#include "train/sampler.h"
#include "train/start_int.h"

static struct rp_error err;

static void need(enum rp_status status)
{
    if (status == RP_STATUS_OK) return;
    fprintf(stderr, "logits: %s\n", err.text);
    exit(status);
}

int main(int argc, char **argv)
{
    struct rp_manifest manifest = {.segment = -1};
    struct rp_data_shape shape;
    struct rp_spec *spec = NULL;
    struct rp_plan *plan = NULL;
    struct rp_device *device = NULL;
    struct rp_trainer *trainer = NULL;
    struct rp_sampler *sampler = NULL;
    struct rp_env_device_options options = {.threads = 2, .quiet = true};
    uint64_t step;
    bool found = false;
    if (argc < 3) return RP_STATUS_USAGE;
    need(rp_manifest_read(argv[1], &found, &manifest, &err));
    need(rp_train_load_spec(argv[1], &manifest, NULL, NULL, &spec, &err));
    if (!rp_facts_shape(&manifest, &shape)) return RP_STATUS_DATA;
    spec->train.batch = spec->train.shards = 1;
    shape.n_valid = 1;
    need(rp_env_open_device(spec, &options, &device, &err));
    need(rp_plan_make_for(spec, &shape, 2, 1, device->table, &plan, &err));
    need(rp_trainer_open_eval(spec, plan, NULL, device, &trainer, &err));
    need(rp_weights_restore_model(trainer, argv[1], UINT64_MAX, &step, &err));
    need(rp_sampler_open(trainer, &sampler, &err));
    int64_t vocab = rp_sampler_vocab(sampler);
    float *logits = RP_NEW_ARRAY(float, vocab);
    for (int i = 2; i < argc; i++) {
        int32_t token = (int32_t)strtol(argv[i], NULL, 10);
        need(rp_sampler_feed(sampler, &token, 1, logits, &err));
        for (int64_t v = 0; v < vocab; v++)
            printf("%a%s", (double)logits[v], v + 1 < vocab ? " " : "\n");
    }
    rp_mem_free(logits);
    rp_sampler_close(sampler);
    rp_trainer_close(trainer);
    rp_plan_free(plan);
    rp_env_close_device(device);
    rp_spec_free(spec);
    rp_manifest_release(&manifest);
    return RP_STATUS_OK;
}
