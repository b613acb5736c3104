/* against.c - a run compared with another's digests, step by step: while it runs, and for the steps
 * that its folder holds already. */
#include "base/mem.h"
#include "base/sys.h"
#include "train/train_int.h"

static enum rp_status say_difference(const struct rp_digest_line *theirs,
                                     const struct rp_digest_line *ours, struct rp_error *err)
{
    char a[RP_HEX64], b[RP_HEX64];
    if (theirs->params == ours->params && theirs->loss_bits == ours->loss_bits)
        return rp_error_set(err, RP_STATUS_DIFFERENT,
                            "step %llu has the same result but another chain, so an earlier step, "
                            "which the record compared with lacks, differs",
                            (unsigned long long)ours->step);
    rp_hex64(theirs->params, a);
    rp_hex64(ours->params, b);
    return rp_error_set(err, RP_STATUS_DIFFERENT,
                        "step %llu is the first that differs: params digest %s expected, "
                        "%s computed (loss bits %08x and %08x); "
                        "`reprise compare` names the tensor",
                        (unsigned long long)ours->step, a, b, theirs->loss_bits, ours->loss_bits);
}

enum rp_status rp_against_step(const struct rp_digests *against, const struct rp_digest_line *line,
                               uint64_t *n_compared, struct rp_error *err)
{
    for (int64_t i = (int64_t)*n_compared; i < against->n; i++) {
        const struct rp_digest_line *other = &against->line[i];
        if (other->step != line->step) continue;
        if (!rp_sha256_equal(&other->chain, &line->chain) || other->params != line->params)
            return say_difference(other, line, err);
        *n_compared = (uint64_t)i + 1;
        break;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_against_recorded(const struct rp_digests *against, const char *run, uint64_t last,
                                   uint64_t *n_compared, struct rp_error *err)
{
    struct rp_digests recorded = {0};
    char *path = rp_sys_join(run, "digests.jsonl");
    enum rp_status status = rp_digests_read(path, &recorded, err);
    for (int64_t i = 0; status == RP_STATUS_OK && i < recorded.n; i++)
        if (recorded.line[i].step <= last)
            status = rp_against_step(against, &recorded.line[i], n_compared, err);
    rp_digests_release(&recorded);
    rp_mem_free(path);
    return status;
}
