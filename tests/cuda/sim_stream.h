/* sim_stream.h - what the simulator shows to other libraries that stand in for NVIDIA's: they put
 * work on its streams, as NCCL does. The module's other symbols are hidden. */
#ifndef RP_SIM_STREAM_H
#define RP_SIM_STREAM_H

#ifdef __cplusplus
extern "C" {
#endif

/* What `work` returns: done, or it waits for another process and is to be called again; anything
 * else is a fault of the device. */
enum { RP_SIM_DONE = 0, RP_SIM_NOT_YET = -1 };

__attribute__((visibility("default"))) void
rp_sim_stream_add(void *stream, int (*work)(void *context), void *context);
/* The device that the thread has set. */
__attribute__((visibility("default"))) int rp_sim_stream_device(void);

#ifdef __cplusplus
}
#endif

#endif
