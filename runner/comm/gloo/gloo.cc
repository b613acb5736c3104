// gloo.cc - the module reprise_gloo: the one C++ file between us and Gloo. No exception leaves it.
#include <gloo/allgather.h>
#include <gloo/alltoall.h>
#include <gloo/config.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <cstdio>
#include <cstring>

extern "C" {
#include "comm/gloo/gloo.h"
}

static const struct rp_extension_host *host;

namespace {

// What the control channel keeps for us.
class ControlStore : public gloo::rendezvous::Store {
  public:
    explicit ControlStore(const struct rp_gloo_store *store) : store_(*store) {}
    void set(const std::string &key, const std::vector<char> &data) override
    {
        if (!store_.set(store_.context, key.c_str(), data.data(), data.size())) over();
    }
    std::vector<char> get(const std::string &key) override
    {
        void *bytes = nullptr;
        size_t n = 0;
        if (!store_.get(store_.context, key.c_str(), &bytes, &n)) over();
        const char *from = static_cast<const char *>(bytes);
        std::vector<char> data(from, from + n);
        host->release(bytes);
        return data;
    }
    void wait(const std::vector<std::string> &keys) override
    {
        for (const std::string &key : keys) get(key);
    }

  private:
    [[noreturn]] static void over() { throw std::runtime_error("the control channel is closed"); }
    struct rp_gloo_store store_;
};

struct World {
    std::shared_ptr<gloo::rendezvous::Context> context;
};

// The control channel finds the lost; this is for the case that it does not.
const std::chrono::milliseconds kLongest(24 * 3600 * 1000);

bool fail(char why[RP_GLOO_WHY_BYTES], const char *what)
{
    snprintf(why, RP_GLOO_WHY_BYTES, "%.*s", RP_GLOO_WHY_BYTES - 1, what);
    return false;
}

bool open_world(int rank, int n_ranks, const char *own_address, const struct rp_gloo_store *store,
                void **world, char why[RP_GLOO_WHY_BYTES])
{
    try {
        gloo::transport::tcp::attr attr(own_address);
        auto device = gloo::transport::tcp::CreateDevice(attr);
        ControlStore shared(store);
        auto made = std::make_unique<World>();
        made->context = std::make_shared<gloo::rendezvous::Context>(rank, n_ranks);
        made->context->setTimeout(kLongest);
        made->context->connectFullMesh(shared, device);
        *world = made.release();
        return true;
    } catch (const std::exception &e) {
        return fail(why, e.what());
    }
}

void close_world(void *world)
{
    delete static_cast<World *>(world);
}

bool all_to_all(void *world, const void *in, void *out, size_t bytes, char why[RP_GLOO_WHY_BYTES])
{
    auto &context = static_cast<World *>(world)->context;
    try {
        gloo::AlltoallOptions options(context);
        size_t all = bytes * static_cast<size_t>(context->size);
        options.setInput(const_cast<char *>(static_cast<const char *>(in)), all);
        options.setOutput(static_cast<char *>(out), all);
        gloo::alltoall(options);
        return true;
    } catch (const std::exception &e) {
        return fail(why, e.what());
    }
}

bool all_gather(void *world, const void *in, void *out, size_t bytes, char why[RP_GLOO_WHY_BYTES])
{
    auto &context = static_cast<World *>(world)->context;
    try {
        gloo::AllgatherOptions options(context);
        options.setInput(const_cast<char *>(static_cast<const char *>(in)), bytes);
        options.setOutput(static_cast<char *>(out), bytes * static_cast<size_t>(context->size));
        gloo::allgather(options);
        return true;
    } catch (const std::exception &e) {
        return fail(why, e.what());
    }
}

char libraries[32];
struct rp_gloo_module table = {{RP_EXTENSION_VERSION, RP_GLOO_MODULE, libraries},
                               open_world,
                               close_world,
                               all_to_all,
                               all_gather};

} // namespace

extern "C" __attribute__((visibility("default"))) const struct rp_extension *
rp_module_v1(const struct rp_extension_host *from)
{
    if (from->version != RP_EXTENSION_VERSION) return nullptr;
    host = from;
    snprintf(libraries, sizeof libraries, "Gloo %d.%d.%d", GLOO_VERSION_MAJOR, GLOO_VERSION_MINOR,
             GLOO_VERSION_PATCH);
    return &table.extension;
}
