/* Many ranks: the formulas of scale.h at points that can be computed by hand, and how a network is
 * read. */
#include "plan/scale.h"
#include "made_spec.h"

#include <math.h>
#include <string.h>

static bool near(double got, double want)
{
    return fabs(got - want) <= 1e-12 * fabs(want);
}

/* 1 GB/s and 10 us between nodes, 10 GB/s and 1 us within; 1 MB of sums, added in 1 ms. */
static struct rp_plan_step exchange(int ranks, int per_node)
{
    struct rp_plan_time time = {.ranks = ranks, .add_seconds = 1e-3};
    struct rp_plan_network network = {
        .between = {1e9, 10e-6}, .within = {1e10, 1e-6}, .per_node = per_node};
    struct rp_plan_step step = {0};
    rp_scale_exchange(1e6, &time, &network, &step);
    CHECK(near(step.exchange, step.scatter + step.join + step.gather + step.agree));
    return step;
}

static void test_one_node_each(void)
{
    struct rp_plan_step one = exchange(1, 1), four = exchange(4, 1);
    CHECK(one.exchange <= 0);
    /* Thakur et al.: pairwise exchange and ring, (R-1) alpha + n (R-1)/R beta each. */
    CHECK(near(four.scatter, RP_SCALE_SCATTERS * 3 * 10e-6 + 1e6 * 3 / 4 / 1e9));
    CHECK(near(four.gather, RP_SCALE_GATHERS * 3 * 10e-6 + 1e6 * 3 / 4 / 1e9));
    CHECK(near(four.join, 0.75e-3));
    CHECK(near(four.agree, 3 * (2 * 10e-6 + (1 + 4) * RP_SCALE_VOTE_BYTES / 1e9)));
}

/* What was measured of an agreement near by, and by the link's numbers for a table without it. */
static void test_agreements(void)
{
    struct rp_plan_time time = {.ranks = 4, .add_seconds = 1e-3, .agree_seconds = 3e-4};
    struct rp_plan_network network = {
        .between = {1e9, 10e-6}, .within = {1e10, 1e-6}, .per_node = 1};
    struct rp_plan_step apart = {0}, within = {0}, old = {0};
    rp_scale_exchange(1e6, &time, &network, &apart);
    CHECK(near(apart.agree, exchange(4, 1).agree + 3e-4));
    network.per_node = 4;
    rp_scale_exchange(1e6, &time, &network, &within);
    CHECK(near(within.agree, 3e-4) && exchange(4, 4).agree <= 0);
    time.agree_seconds = -1;
    rp_scale_exchange(1e6, &time, &network, &old);
    CHECK(near(old.agree, 3 * (2 * 1e-6 + (1 + 4) * RP_SCALE_VOTE_BYTES / 1e10)));
}

static void test_ranks_share_a_node(void)
{
    struct rp_plan_step within = exchange(4, 4), eight = exchange(8, 4), apart = exchange(8, 1);
    CHECK(near(within.scatter, 3 * (RP_SCALE_SCATTERS * 1e-6 + 0.25e6 / 1e10)));
    CHECK(near(within.gather, 3 * (RP_SCALE_GATHERS * 1e-6 + 0.25e6 / 1e10)));
    /* 3 partners in the node, 4 beyond it, whose link 4 ranks share; the ring crosses it with one.
     */
    CHECK(near(eight.scatter, RP_SCALE_SCATTERS * (3 * 1e-6 + 4 * 10e-6) + 3 * 0.125e6 / 1e10 +
                                  4 * 4 * 0.125e6 / 1e9));
    CHECK(near(eight.gather, 7 * (RP_SCALE_GATHERS * 10e-6 + 0.125e6 / 1e9)));
    CHECK(eight.scatter > apart.scatter); /* control: a link for each rank is faster */
}

/* Bytes of a rank approach n; latencies grow with R. */
static void test_many(void)
{
    for (int ranks = 2; ranks <= RP_PLAN_MOST_RANKS; ranks *= 2) {
        struct rp_plan_step step = exchange(ranks, 1);
        CHECK(step.scatter >= 1e6 * (ranks - 1) / ranks / 1e9);
        CHECK(step.scatter <= 1e-3 + RP_SCALE_SCATTERS * ranks * 10e-6);
        CHECK(ranks == 2 || step.exchange > exchange(ranks / 2, 1).exchange);
    }
}

/* A step of 2 ranks that computes for a second and scatters for `seconds`. */
static double hidden(const char *bucket_bytes, double seconds)
{
    struct made made;
    struct rp_plan *plan = NULL;
    struct rp_error err = {0};
    made_lenet(&made);
    setenv("REPRISE_BUCKET_BYTES", bucket_bytes, 1);
    CHECK_OK(rp_plan_make_for(&made.spec, &made.data, 1, 2, &rp_device_cpu, &plan, &err), &err);
    struct rp_plan_step step = {.ranks = 2, .compute = 1, .scatter = seconds};
    double got = rp_scale_hidden(plan, &step);
    unsetenv("REPRISE_BUCKET_BYTES");
    rp_plan_free(plan);
    return got;
}

/* The large layers are complete when a small part of backward has run; the last bucket, the first
 * convolution's weights, is 600 bytes of some 178,000. */
static void test_hidden(void)
{
    double fast = hidden("1", 1e-3), slow = hidden("1", 100);
    CHECK(fast > 0.98e-3 && fast < 1e-3); /* all but the last bucket and the loss */
    CHECK(slow > 0.1 && slow < 1);        /* no more than backward takes */
    CHECK(fabs(hidden("", 1e-3)) < 1e-12 &&
          fabs(hidden("", 100)) < 1e-12); /* control: one bucket */
}

static void check_link(const char *text, double bandwidth, double latency)
{
    struct rp_plan_link link = {0};
    struct rp_error err = {0};
    CHECK_INT(rp_plan_parse_link("--network", text, &link, &err), RP_STATUS_OK);
    CHECK(near(link.bytes_per_second, bandwidth) && near(link.seconds, latency));
}

static void check_refused(const char *text, const char *why)
{
    struct rp_plan_link link = {0};
    struct rp_error err = {0};
    CHECK_INT(rp_plan_parse_link("--network", text, &link, &err), RP_STATUS_USAGE);
    CHECK(strstr(err.text, why) && strstr(err.text, text) && strstr(err.text, "--network"));
}

static void test_links(void)
{
    check_link("400Gb/s,5us", 50e9, 5e-6);
    check_link("25GB/s,0.01ms", 25e9, 1e-5);
    check_link("1.5 GiB/s,200 ns", 1.5 * 1073741824.0, 2e-7);
    check_link("100Mb/s,1s", 12.5e6, 1);
    static const char *const no_unit[] = {"",
                                          "400",
                                          "400Gb/s",
                                          "400,5us",
                                          "400Gb/s,5",
                                          "400Gb,5us",
                                          "Gb/s,5us",
                                          "400gb/s,5us",
                                          ",",
                                          "400Gb/s,5us,",
                                          "inf Gb/s,1s",
                                          "4e9B/s,1s",
                                          "1..2Gb/s,1us",
                                          "400Gb/s;5us"};
    for (size_t i = 0; i < RP_COUNT(no_unit); i++) check_refused(no_unit[i], "each with its unit");
    check_refused("0Gb/s,5us", "above zero");
    check_refused("400Gb/s,0us", "above zero");
    check_refused("-400Gb/s,5us", "above zero");
    check_refused("400Gb/s,-5us", "above zero");
}

int main(void)
{
    test_one_node_each();
    test_agreements();
    test_ranks_share_a_node();
    test_many();
    test_hidden();
    test_links();
    return test_result();
}
