// peer_gloo.cc - Gloo over TCP on the loopback, for `scripts/bench ranks`.
//
//   peer_gloo FOLDER RANK RANKS allreduce N ROUNDS   its all-reduce of N fp32 gradients and a full update
//   peer_gloo FOLDER RANK RANKS exchange BYTES ROUNDS   every rank sends BYTES to each other rank and gets as
//                                                       many, pairwise; a line per round: seconds
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include "peer.h"

#include <memory>
#include <vector>

namespace {

using Context = std::shared_ptr<gloo::rendezvous::Context>;

Context connect(const char *folder, int rank, int ranks)
{
    gloo::rendezvous::FileStore store(folder);
    gloo::transport::tcp::attr attr("127.0.0.1");
    auto device = gloo::transport::tcp::CreateDevice(attr);
    auto context = std::make_shared<gloo::rendezvous::Context>(rank, ranks);
    context->connectFullMesh(store, device);
    return context;
}

void meet(const Context &context)
{
    gloo::BarrierOptions options(context);
    gloo::barrier(options);
}

void allreduce(const Context &context, const char *n, const char *rounds)
{
    struct job job = job_new(n, rounds);
    for (int round = 0; round < job.rounds; round++) {
        meet(context);
        double begun = clock_now();
        gloo::AllreduceOptions options(context);
        options.setOutput(job.g, job.n);
        options.setReduceFunction(static_cast<void (*)(void *, const void *, const void *, size_t)>(&gloo::sum<float>));
        gloo::allreduce(options);
        double reduced = clock_now();
        update(&job);
        if (context->rank == 0) say_round(reduced - begun, clock_now() - reduced);
        for (size_t i = 0; i < job.n; i++) job.g[i] = 1e-3f;
    }
    job_free(&job);
}

void exchange(const Context &context, size_t bytes, int rounds)
{
    std::vector<char> out(bytes, 1), in(bytes);
    auto sent = context->createUnboundBuffer(out.data(), bytes);
    auto got = context->createUnboundBuffer(in.data(), bytes);
    for (int round = 0; round < rounds; round++) {
        meet(context);
        double begun = clock_now();
        for (int k = 1; k < context->size; k++) {
            sent->send((context->rank + k) % context->size, 1);
            got->recv((context->rank + context->size - k) % context->size, 1);
            sent->waitSend();
            got->waitRecv();
        }
        if (context->rank == 0) say_round(clock_now() - begun, 0);
    }
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 7) return 2;
    try {
        Context context = connect(argv[1], atoi(argv[2]), atoi(argv[3]));
        if (strcmp(argv[4], "allreduce") == 0)
            allreduce(context, argv[5], argv[6]);
        else
            exchange(context, static_cast<size_t>(strtoull(argv[5], nullptr, 10)), atoi(argv[6]));
        meet(context); // nobody leaves while another still reads
    } catch (const std::exception &e) {
        fprintf(stderr, "peer_gloo: %s\n", e.what());
        return 1;
    }
    return 0;
}
