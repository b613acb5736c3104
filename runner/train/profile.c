#include "train/profile.h"

#include "base/mem.h"
#include "base/sys.h"

enum { MAX_EVENTS = 200000 };

struct event {
    const char *name;
    double start, seconds;
    int track; /* 1: phases, 2: ops */
};

struct op_row {
    double seconds, flops, bytes;
    uint64_t calls;
};

struct rp_profile {
    struct rp_device *device;
    bool timed;
    struct op_row op[RP_OP_COUNT];
    double phase_seconds[RP_PHASE_COUNT];
    double origin, phase_start;
    int phase; /* -1: none yet */
    struct event *event;
    int n_events;
};

static const char *const phase_names[] = {
#define RP_PHASE_NAME(name, text) text,
    RP_PHASE_LIST(RP_PHASE_NAME)
#undef RP_PHASE_NAME
};

struct rp_profile *rp_profile_new(struct rp_device *device, bool timed)
{
    struct rp_profile *p = RP_NEW(struct rp_profile);
    p->device = device;
    p->timed = timed;
    if (timed) p->event = RP_NEW_ARRAY(struct event, MAX_EVENTS);
    p->origin = rp_sys_clock();
    p->phase = -1;
    return p;
}

void rp_profile_free(struct rp_profile *p)
{
    if (!p) return;
    if (p->device->table->mark) p->device->table->mark(p->device, NULL);
    rp_mem_free(p->event);
    rp_mem_free(p);
}

bool rp_profile_is_timed(const struct rp_profile *p)
{
    return p && p->timed;
}

static void add_event(struct rp_profile *p, const char *name, double start, double seconds,
                      int track)
{
    if (p->timed && p->n_events < MAX_EVENTS)
        p->event[p->n_events++] = (struct event){name, start - p->origin, seconds, track};
}

void rp_profile_phase(struct rp_profile *p, enum rp_phase phase)
{
    if (!p || p->phase == (int)phase) return;
    if (p->device->table->mark)
        p->device->table->mark(p->device, phase < RP_PHASE_COUNT ? phase_names[phase] : NULL);
    double now = rp_sys_clock();
    if (p->phase >= 0) {
        p->phase_seconds[p->phase] += now - p->phase_start;
        add_event(p, phase_names[p->phase], p->phase_start, now - p->phase_start, 1);
    }
    p->phase = (int)phase;
    p->phase_start = now;
}

double rp_profile_seconds(const struct rp_profile *p, enum rp_phase phase)
{
    return p->phase_seconds[phase];
}

double rp_profile_begin(const struct rp_profile *p)
{
    return rp_profile_is_timed(p) ? rp_sys_clock() : 0;
}

void rp_profile_end(struct rp_profile *p, const struct rp_op_call *call, double began)
{
    if (!rp_profile_is_timed(p)) return;
    double now = rp_sys_clock(), flops = 0, bytes = 0;
    struct op_row *row = &p->op[call->op];
    rp_op_cost(call, &flops, &bytes);
    row->seconds += now - began;
    row->flops += flops;
    row->bytes += bytes;
    row->calls++;
    add_event(p, rp_op_info(call->op)->name, began, now - began, 2);
}

static void print_phases(struct rp_profile *p, struct rp_text *text)
{
    double total = 0;
    for (int i = 0; i < RP_PHASE_COUNT; i++) total += p->phase_seconds[i];
    rp_text_add(text, "%-18s %10s %7s\n", "phase", "seconds", "share");
    for (int i = 0; i < RP_PHASE_COUNT; i++)
        if (p->phase_seconds[i] > 0)
            rp_text_add(text, "%-18s %10.3f %6.1f%%\n", phase_names[i], p->phase_seconds[i],
                        100 * p->phase_seconds[i] / total);
}

void rp_profile_print(struct rp_profile *p, double peak_flops, double peak_bytes,
                      struct rp_text *text)
{
    rp_profile_phase(p, RP_PHASE_COUNT); /* ends the last one */
    print_phases(p, text);
    rp_text_add(text, "\n%-18s %9s %10s %10s %7s %9s %7s\n", "op", "calls", "seconds", "floor",
                "share", "GFLOP/s", "GB/s");
    for (;;) {
        int most = -1;
        for (int i = 0; i < RP_OP_COUNT; i++)
            if (p->op[i].calls && (most < 0 || p->op[i].seconds > p->op[most].seconds)) most = i;
        if (most < 0) break;
        struct op_row *row = &p->op[most];
        double by_flops = row->flops / peak_flops, by_bytes = row->bytes / peak_bytes;
        double floor = by_flops > by_bytes ? by_flops : by_bytes;
        rp_text_add(text, "%-18s %9llu %10.3f %10.3f %6.0f%% %9.1f %7.1f\n",
                    rp_op_info((enum rp_op)most)->name, (unsigned long long)row->calls,
                    row->seconds, floor, 100 * floor / row->seconds,
                    row->flops / row->seconds * 1e-9, row->bytes / row->seconds * 1e-9);
        row->calls = 0;
    }
    rp_text_add(text,
                "\nfloor: the larger of FLOPs at %.0f GFLOP/s and least bytes at %.1f GB/s, both "
                "measured on this machine just now\n",
                peak_flops * 1e-9, peak_bytes * 1e-9);
}

enum rp_status rp_profile_write(struct rp_profile *p, const char *path, struct rp_error *err)
{
    struct rp_text text = {0};
    rp_text_add(&text, "{\"traceEvents\":[\n");
    for (int i = 0; i < p->n_events; i++)
        rp_text_add(
            &text,
            "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":0,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f}%s\n",
            p->event[i].name, p->event[i].track, 1e6 * p->event[i].start, 1e6 * p->event[i].seconds,
            i + 1 < p->n_events ? "," : "");
    rp_text_add(&text, "],\"displayTimeUnit\":\"ms\"}\n");
    enum rp_status status = rp_sys_write_file(path, rp_text_get(&text), text.length, err);
    rp_text_release(&text);
    return status;
}
