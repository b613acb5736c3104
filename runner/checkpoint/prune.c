/* prune.c - removing what `checkpoint.keep` does not keep. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <string.h>

/* Renamed first, so that one cut short by a kill is a leftover and never a damaged checkpoint. */
static enum rp_status remove_step(const char *root, const char *name, struct rp_error *err)
{
    char *from = rp_sys_join(root, name), *to = rp_mem_text("%s/removing-%s", root, name);
    enum rp_status status = rp_sys_remove(to, err);
    if (status == RP_STATUS_OK) status = rp_sys_rename(from, to, err);
    if (status == RP_STATUS_OK) status = rp_sys_remove(to, err);
    rp_mem_free(to);
    rp_mem_free(from);
    return status;
}

enum rp_status rp_checkpoint_prune(const char *run, int64_t keep_last, uint64_t keep_every,
                                   bool has_best, uint64_t best_step, struct rp_error *err)
{
    char *root = rp_checkpoint_root(run), **names = NULL;
    uint64_t *steps = NULL;
    int n = 0;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_sys_list(root, &names, err), out);
    for (char **name = names; *name && status == RP_STATUS_OK; name++) {
        if (!rp_checkpoint_is_leftover(*name)) continue;
        char *path = rp_sys_join(root, *name);
        status = rp_sys_remove(path, err);
        rp_mem_free(path);
    }
    if (status == RP_STATUS_OK) status = rp_checkpoint_list(run, &steps, &n, err);
    if (keep_last == 0) keep_last = 1; /* the newest always stays */
    for (int i = 0; i < n && keep_last > 0 && status == RP_STATUS_OK; i++) {
        bool last = i >= n - keep_last, best = has_best && steps[i] == best_step;
        bool regular = keep_every && steps[i] % keep_every == 0;
        if (last || best || regular) continue;
        char *folder = rp_checkpoint_folder(run, steps[i]);
        status = remove_step(root, folder + strlen(root) + 1, err);
        rp_mem_free(folder);
    }
out:
    rp_mem_free(steps);
    rp_sys_free_names(names);
    rp_mem_free(root);
    return status;
}
