/* image.c - images with a margin of zeros. */
#include "cpu/image.h"

#include <string.h>

struct job {
    const struct rp_image *image;
    float *to;
    int n_threads;
};

static void frame_row(const struct rp_image *image, int64_t n, int64_t row, float *to)
{
    size_t pixel = (size_t)image->c * sizeof *to;
    int64_t h = row - image->top, right = image->wide - image->left - image->w;
    if (h < 0 || h >= image->h) {
        memset(to, 0, (size_t)image->wide * pixel);
        return;
    }
    memset(to, 0, (size_t)image->left * pixel);
    to += image->left * image->c;
    memcpy(to, image->from + (n * image->h + h) * image->w * image->c, (size_t)image->w * pixel);
    memset(to + image->w * image->c, 0, (size_t)right * pixel);
}

static void frame_part(void *arg, int thread)
{
    const struct job *job = arg;
    const struct rp_image *image = job->image;
    int64_t begin, end;
    rp_pool_cut(image->n * image->high, 1, thread, job->n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        frame_row(image, i / image->high, i % image->high, job->to + i * image->wide * image->c);
}

size_t RP_ISA_NAME(rp_image_scratch)(const struct rp_image *image)
{
    if (rp_image_is_plain(image)) return 0;
    return (size_t)(image->n * image->high * image->wide * image->c) * sizeof(float);
}

const float *RP_ISA_NAME(rp_image_frame)(struct rp_cpu *cpu, const struct rp_image *image,
                                         unsigned char *scratch)
{
    if (rp_image_is_plain(image)) return image->from;
    struct job job = {
        .image = image, .to = (float *)scratch, .n_threads = rp_pool_threads(cpu->pool)};
    rp_pool_run(cpu->pool, rp_pool_threads(cpu->pool), frame_part, &job);
    return job.to;
}
