/* draw.h - private to kernels/cpu: Philox blocks side by side, one a lane. numerics.h has the same
 * for one. */
#ifndef RP_CPU_DRAW_H
#define RP_CPU_DRAW_H

#include "cpu/vec.h"
#include "numerics.h"

/* What the dropout of one layer and sample draws from. */
struct rp_draw_stream {
    uint64_t seed, p; /* p: position of the sample */
    uint32_t site;
};

/* Word i of blocks block, block + 1, ... block + RP_VW - 1 to the lanes of word[i]. */
RP_VEC_FN void rp_draw_lanes(const struct rp_draw_stream *stream, uint32_t block, rp_vu word[4])
{
    uint32_t key0 = (uint32_t)stream->seed, key1 = (uint32_t)(stream->seed >> 32);
    rp_vu c0 = rp_vset_u(block) + (rp_vu)rp_vlanes(), c1 = rp_vset_u((uint32_t)stream->p);
    rp_vu c2 = rp_vset_u((uint32_t)(stream->p >> 32));
    rp_vu c3 = rp_vset_u((uint32_t)RP_PURPOSE_DROPOUT << 24 | stream->site);
    for (int round = 0; round < 10; round++) {
        rp_vu high0, high2;
        rp_vu low0 = rp_vmul_wide(c0, rp_vset_u(RP_PHILOX_M0), &high0);
        rp_vu low2 = rp_vmul_wide(c2, rp_vset_u(RP_PHILOX_M1), &high2);
        c0 = high2 ^ c1 ^ rp_vset_u(key0);
        c1 = low2;
        c2 = high0 ^ c3 ^ rp_vset_u(key1);
        c3 = low0;
        key0 += RP_PHILOX_W0, key1 += RP_PHILOX_W1;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

#endif
