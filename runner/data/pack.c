/* pack.c - a folder of images into one packed file: headers first (size, channels, what is broken),
 * then every image at its place in the file, by as many threads as are wanted; then names, labels,
 * hash. Whoever decodes an image, it lands at the same place: the bytes are always the same. */
#include "data/pack_int.h"

#include "base/sys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MOST = 256, SIDE_CHOSEN_MOST = 64, COPY_BYTES = 1 << 20 };

struct packer {
    const struct rp_pack_options *options;
    struct rp_pack_result *result;
    struct pack_list list;
    struct pack_form form;
    struct packed_header header;
    char *temp; /* the file while it is written */
    int fd;
    /* The work shared by threads: image number `next`; what to do with it. */
    atomic_int_fast64_t next, done;
    bool (*work)(struct packer *packer, struct pack_image *image, uint8_t *room);
    pthread_mutex_t mutex;
    enum rp_status status; /* of the first write that failed */
    struct rp_error *err;
};

static int64_t image_bytes(const struct packer *p)
{
    return p->form.height * p->form.width * p->form.channels;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void run_worker(struct packer *p, bool reports)
{
    uint8_t *room = rp_mem_new((size_t)(image_bytes(p) > 0 ? image_bytes(p) : 1));
    double last = rp_sys_clock();
    for (;;) {
        if (rp_stop_asked(p->options->stop)) break;
        int64_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->list.n || !p->work(p, &p->list.image[i], room)) break;
        int64_t done = atomic_fetch_add(&p->done, 1) + 1;
        if (!reports || !p->options->progress || rp_sys_clock() - last < 0.1) continue;
        last = rp_sys_clock();
        p->options->progress(done, p->list.n);
    }
    rp_mem_free(room);
}

static void *start_worker(void *argument)
{
    run_worker(argument, false);
    return NULL;
}

/* Does `work` to every image; stops early when it says so. */
static enum rp_status for_all(struct packer *p,
                              bool (*work)(struct packer *, struct pack_image *, uint8_t *))
{
    pthread_t threads[THREADS_MOST];
    int n = 0, wanted = p->options->threads < THREADS_MOST ? p->options->threads : THREADS_MOST;
    p->work = work;
    atomic_store(&p->next, 0);
    atomic_store(&p->done, 0);
    while (n + 1 < wanted && pthread_create(&threads[n], NULL, start_worker, p) == 0) n++;
    run_worker(p, true);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    if (p->status == RP_STATUS_OK && rp_stop_asked(p->options->stop))
        return rp_error_set(p->err, RP_STATUS_STOPPED,
                            "stopped by a signal; nothing was written. Run it again");
    return p->status;
}

static bool probe_image(struct packer *p, struct pack_image *image, uint8_t *room)
{
    (void)room;
    pack_image_probe(&p->form, image);
    return true;
}

static bool write_image(struct packer *p, struct pack_image *image, uint8_t *room)
{
    if (image->why[0]) return true;
    pack_image_make(&p->form, image, room);
    if (image->why[0]) return true;
    struct rp_error *err = RP_NEW(struct rp_error);
    uint64_t at =
        p->header.pixels_at + (uint64_t)(image - p->list.image) * (uint64_t)image_bytes(p);
    enum rp_status status = rp_sys_write_at(p->fd, at, room, (size_t)image_bytes(p), p->temp, err);
    if (status != RP_STATUS_OK) {
        pthread_mutex_lock(&p->mutex);
        if (p->status == RP_STATUS_OK) p->status = rp_error_set(p->err, status, "%s", err->text);
        pthread_mutex_unlock(&p->mutex);
    }
    rp_mem_free(err);
    return status == RP_STATUS_OK;
}

/* ---- what the images become ------------------------------------------------------------------ */

static int compare_numbers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The lower median of the heights or widths of the images that are not broken. */
static int64_t median_side(const struct packer *p, bool height)
{
    int64_t *sides = RP_NEW_ARRAY(int64_t, p->list.n), n = 0, h, w;
    for (int64_t i = 0; i < p->list.n; i++) {
        if (p->list.image[i].why[0]) continue;
        pack_image_size(&p->list.image[i].info, &h, &w);
        sides[n++] = height ? h : w;
    }
    qsort(sides, (size_t)n, sizeof *sides, compare_numbers);
    int64_t side = n ? sides[(n - 1) / 2] : 1;
    rp_mem_free(sides);
    return side < SIDE_CHOSEN_MOST ? side : SIDE_CHOSEN_MOST;
}

static void choose_form(struct packer *p)
{
    bool colour = p->options->channels == RP_PACK_COLOUR;
    p->form.height = p->options->height ? p->options->height : median_side(p, true);
    p->form.width = p->options->width ? p->options->width : median_side(p, false);
    p->form.stretch = p->options->stretch;
    for (int64_t i = 0; i < p->list.n && p->options->channels == RP_PACK_AUTO; i++)
        colour = colour || (!p->list.image[i].why[0] && p->list.image[i].info.channels >= 3);
    p->form.channels = colour ? 3 : 1;
}

/* Offsets of a file of n images. */
static void place(struct packer *p, int64_t n)
{
    uint64_t names = 0;
    for (int64_t i = 0; i < p->list.n_classes; i++) names += 4 + strlen(p->list.class_names[i]);
    p->header = (struct packed_header){.version = PACKED_VERSION,
                                       .n_classes = (uint32_t)p->list.n_classes,
                                       .n = (uint64_t)n,
                                       .height = (uint32_t)p->form.height,
                                       .width = (uint32_t)p->form.width,
                                       .channels = (uint32_t)p->form.channels};
    p->header.labels_at = (PACKED_HEADER_BYTES + names + 7) / 8 * 8;
    p->header.pixels_at =
        (p->header.labels_at + 4 * (uint64_t)n + PACKED_ALIGN - 1) / PACKED_ALIGN * PACKED_ALIGN;
}

/* ---- broken images --------------------------------------------------------------------------- */

/* `all_known`: every image has been decoded, or tried; before that only the headers were read. */
static enum rp_status count_broken(struct packer *p, bool all_known, struct rp_error *err)
{
    struct rp_pack_result *result = p->result;
    result->n_broken = 0;
    rp_text_release(&result->broken);
    for (int64_t i = 0; i < p->list.n; i++) {
        const struct pack_image *image = &p->list.image[i];
        if (!image->why[0]) continue;
        result->n_broken++;
        rp_text_add(&result->broken, "%s: %s\n", image->path, image->why);
    }
    if (result->n_broken == p->list.n)
        return rp_error_set(err, RP_STATUS_DATA, "%s: none of its %lld images decodes",
                            p->options->folder, (long long)p->list.n);
    if (result->n_broken == 0 || p->options->skip_broken || !all_known) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s: %lld of %lld images do not decode: mend or remove them, or leave them "
                        "out with --skip-broken",
                        p->options->folder, (long long)result->n_broken, (long long)p->list.n);
}

/* Broken images have left gaps: the others move down. The new pixels begin no later than the old
 * ones, so that what is moved has been read. */
static enum rp_status close_gaps(struct packer *p, struct rp_error *err)
{
    int64_t n = 0, total = p->list.n - p->result->n_broken;
    uint64_t from = p->header.pixels_at, bytes = (uint64_t)image_bytes(p);
    uint8_t *room = rp_mem_new((size_t)bytes);
    enum rp_status status = RP_STATUS_OK;
    size_t got;
    place(p, total);
    for (int64_t i = 0; i < p->list.n; i++) {
        if (p->list.image[i].why[0]) continue;
        uint64_t to = p->header.pixels_at + (uint64_t)n * bytes;
        RP_TRY_GOTO(status,
                    rp_sys_read_at(p->fd, from + (uint64_t)i * bytes, room, bytes, &got, p->temp,
                                   RP_STATUS_STORAGE, err),
                    out);
        RP_TRY_GOTO(status, rp_sys_write_at(p->fd, to, room, bytes, p->temp, err), out);
        p->list.image[n++].label = p->list.image[i].label;
    }
    status = rp_sys_truncate(p->temp, p->header.pixels_at + (uint64_t)total * bytes, err);
out:
    rp_mem_free(room);
    return status;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* Everything between header and pixels: names, labels, zeros. */
static enum rp_status write_front(struct packer *p, struct rp_error *err)
{
    size_t n = (size_t)(p->header.pixels_at - PACKED_HEADER_BYTES), at = 0;
    uint8_t *block = rp_mem_new(n);
    for (int64_t i = 0; i < p->list.n_classes; i++) {
        size_t length = strlen(p->list.class_names[i]);
        for (int b = 0; b < 4; b++) block[at++] = (uint8_t)(length >> (8 * b));
        memcpy(block + at, p->list.class_names[i], length);
        at += length;
    }
    at = (size_t)(p->header.labels_at - PACKED_HEADER_BYTES);
    for (uint64_t i = 0; i < p->header.n; i++)
        for (int b = 0; b < 4; b++)
            block[at++] = (uint8_t)((uint32_t)p->list.image[i].label >> (8 * b));
    enum rp_status status = rp_sys_write_at(p->fd, PACKED_HEADER_BYTES, block, n, p->temp, err);
    rp_mem_free(block);
    return status;
}

/* Hashes the header and what lies behind it, writes the header, and hashes the file as it is then.
 */
static enum rp_status write_header(struct packer *p, struct rp_error *err)
{
    uint8_t header[PACKED_HEADER_BYTES], *room = rp_mem_new(COPY_BYTES);
    struct rp_hasher *content = rp_hasher_new();
    packed_header_write(&p->header, header);
    rp_hasher_add(content, header, PACKED_HASHED_BYTES);
    uint64_t at = PACKED_HEADER_BYTES;
    size_t got = 1;
    enum rp_status status = RP_STATUS_OK;
    while (status == RP_STATUS_OK && got > 0) {
        status = rp_sys_read_at(p->fd, at, room, COPY_BYTES, &got, p->temp, RP_STATUS_STORAGE, err);
        if (status == RP_STATUS_OK) rp_hasher_add(content, room, got);
        at += got;
    }
    p->header.content = rp_hasher_finish(content);
    p->result->bytes = at;
    packed_header_write(&p->header, header);
    if (status == RP_STATUS_OK)
        status = rp_sys_write_at(p->fd, 0, header, sizeof header, p->temp, err);
    if (status == RP_STATUS_OK) status = rp_sys_sync(p->fd, p->temp, err);
    if (status == RP_STATUS_OK) status = rp_sha256_of_file(p->temp, &p->result->sha256, NULL, err);
    rp_hasher_free(content);
    rp_mem_free(room);
    return status;
}

static enum rp_status check_room(const struct packer *p, struct rp_error *err)
{
    char *folder = rp_sys_folder_of(p->options->out);
    uint64_t need = p->header.pixels_at + p->header.n * (uint64_t)image_bytes(p);
    uint64_t free_bytes = rp_sys_free_space(folder);
    enum rp_status status = RP_STATUS_OK;
    if (free_bytes > 0 && need > free_bytes)
        status =
            rp_error_set(err, RP_STATUS_STORAGE,
                         "%s will have %llu bytes, but only %llu are free there; a smaller "
                         "--size, or another place",
                         p->options->out, (unsigned long long)need, (unsigned long long)free_bytes);
    rp_mem_free(folder);
    return status;
}

static enum rp_status write_file(struct packer *p, struct rp_error *err)
{
    int fd = -1;
    RP_TRY(rp_sys_create(p->temp, &fd, err)); /* empties what a killed one has left */
    rp_sys_close(fd);
    RP_TRY(rp_sys_open_lock(p->temp, &p->fd, err));
    RP_TRY(for_all(p, write_image));
    RP_TRY(count_broken(p, true, err));
    if (p->result->n_broken) RP_TRY(close_gaps(p, err));
    RP_TRY(write_front(p, err));
    RP_TRY(write_header(p, err));
    return rp_sys_rename(p->temp, p->options->out, err);
}

static enum rp_status pack(struct packer *p, struct rp_error *err)
{
    const struct rp_extension *module = NULL;
    RP_TRY(pack_list_read(p->options->folder, &p->list, err));
    RP_TRY(rp_extension_open(RP_IMAGES_MODULE, RP_IMAGES_ADVICE, &module, err));
    p->form.module = (const struct rp_images_module *)module;
    RP_TRY(for_all(p, probe_image));
    RP_TRY(count_broken(p, false, err));
    choose_form(p);
    place(p, p->list.n);
    RP_TRY(check_room(p, err));
    enum rp_status status = write_file(p, err);
    rp_sys_close(p->fd);
    if (status != RP_STATUS_OK && rp_sys_remove(p->temp, NULL) != RP_STATUS_OK) return status;
    return status;
}

enum rp_status rp_data_pack(const struct rp_pack_options *options, struct rp_pack_result *result,
                            struct rp_error *err)
{
    struct packer *p = RP_NEW(struct packer);
    *result = (struct rp_pack_result){0};
    p->options = options;
    p->result = result;
    p->err = err;
    p->fd = -1;
    p->temp = rp_mem_text("%s.tmp.%d", options->out, rp_sys_pid());
    pthread_mutex_init(&p->mutex, NULL);
    enum rp_status status = pack(p, err);
    result->n = (int64_t)p->header.n;
    result->n_classes = p->list.n_classes;
    result->n_other = p->list.n_other;
    result->height = p->form.height;
    result->width = p->form.width;
    result->channels = p->form.channels;
    pthread_mutex_destroy(&p->mutex);
    pack_list_release(&p->list);
    rp_mem_free(p->temp);
    rp_mem_free(p);
    return status;
}

void rp_pack_result_release(struct rp_pack_result *result)
{
    rp_text_release(&result->broken);
    *result = (struct rp_pack_result){0};
}
