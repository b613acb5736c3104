/* flip_vote.c - preloaded into one rank: what it says after step $FLIP_VOTE of the sums that all
 * must have in common (struct vote in runner/train/ranks.c) has one bit turned, as by a processor
 * that adds wrongly. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { VOTE_BYTES = 56, LOSS_AT = 32 };

__attribute__((visibility("default"))) ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int) =
        (ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    const char *text = getenv("FLIP_VOTE");
    uint64_t step = text ? strtoull(text, NULL, 10) : 0, said = 0;
    char *turned = NULL;
    if (n >= VOTE_BYTES) memcpy(&said, bytes, sizeof said);
    if (step > 0 && said == step && (turned = malloc(n))) {
        memcpy(turned, bytes, n);
        turned[LOSS_AT] ^= 1;
    }
    ssize_t sent = real(fd, turned ? turned : bytes, n, flags);
    free(turned);
    return sent;
}
