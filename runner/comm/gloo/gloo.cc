// gloo.cc - the module reprise_gloo: the one C++ file between us and Gloo. No exception leaves it.
#include <gloo/allgatherv.h>
#include <gloo/alltoallv.h>
#include <gloo/config.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <cstdio>
#include <cstring>

extern "C" {
#include "comm/module.h"
}

static const struct rp_extension_host *host;

namespace
{

// What the control channel keeps for us.
class ControlStore : public gloo::rendezvous::Store
{
  public:
    explicit ControlStore(const struct rp_comm_store *store) : store_(*store) {}
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
    struct rp_comm_store store_;
};

struct World {
    std::shared_ptr<gloo::rendezvous::Context> context;
};

// The control channel finds the lost; this is for the case that it does not.
const std::chrono::milliseconds kLongest(24 * 3600 * 1000);

bool fail(char why[RP_COMM_WHY_BYTES], const char *what)
{
    snprintf(why, RP_COMM_WHY_BYTES, "%.*s", RP_COMM_WHY_BYTES - 1, what);
    return false;
}

enum rp_status open_world(const struct rp_comm_module_options *options, void **world,
                          char why[RP_COMM_WHY_BYTES])
{
    try {
        gloo::transport::tcp::attr attr(options->own_address);
        auto device = gloo::transport::tcp::CreateDevice(attr);
        ControlStore shared(&options->store);
        auto made = std::make_unique<World>();
        made->context =
            std::make_shared<gloo::rendezvous::Context>(options->rank, options->n_ranks);
        made->context->setTimeout(kLongest);
        made->context->connectFullMesh(shared, device);
        *world = made.release();
        return RP_STATUS_OK;
    } catch (const std::exception &e) {
        fail(why, e.what());
        return RP_STATUS_PEER_LOST;
    }
}

void close_world(void *world)
{
    delete static_cast<World *>(world);
}

// Bytes of each slice.
template <typename T> std::vector<T> sizes(const uint64_t *border, int n)
{
    std::vector<T> size(static_cast<size_t>(n));
    for (int r = 0; r < n; r++)
        size[static_cast<size_t>(r)] = static_cast<T>(border[r + 1] - border[r]);
    return size;
}

bool all_to_all(void *world, const void *block, const uint64_t *border, void *out,
                char why[RP_COMM_WHY_BYTES])
{
    auto &context = static_cast<World *>(world)->context;
    try {
        gloo::AlltoallvOptions options(context);
        std::vector<int64_t> sent = sizes<int64_t>(border, context->size);
        std::vector<int64_t> own = sent;
        for (int64_t &size : own) size = sent[static_cast<size_t>(context->rank)];
        options.setInput(const_cast<char *>(static_cast<const char *>(block)) + border[0], sent);
        options.setOutput(static_cast<char *>(out), own);
        gloo::alltoallv(options);
        return true;
    } catch (const std::exception &e) {
        return fail(why, e.what());
    }
}

bool all_gather(void *world, void *block, const uint64_t *border, char why[RP_COMM_WHY_BYTES])
{
    auto &context = static_cast<World *>(world)->context;
    try {
        gloo::AllgathervOptions options(context);
        options.setOutput(static_cast<char *>(block) + border[0],
                          sizes<size_t>(border, context->size));
        gloo::allgatherv(options);
        return true;
    } catch (const std::exception &e) {
        return fail(why, e.what());
    }
}

char libraries[32];
struct rp_comm_module table = {{RP_EXTENSION_VERSION, "reprise_gloo", libraries},
                               false,   /* device_memory */
                               nullptr, /* look */
                               open_world,
                               close_world,
                               all_to_all,
                               nullptr, /* show_all_to_all */
                               all_gather,
                               nullptr /* wait */};

} // namespace

const struct rp_extension *rp_module_v1(const struct rp_extension_host *from)
{
    if (from->version != RP_EXTENSION_VERSION) return nullptr;
    host = from;
    snprintf(libraries, sizeof libraries, "Gloo %d.%d.%d", GLOO_VERSION_MAJOR, GLOO_VERSION_MINOR,
             GLOO_VERSION_PATCH);
    return &table.extension;
}
