/* stream.h - private to runner/data: an input file read once from start to end, hashed as it
 * passes. */
#ifndef RP_DATA_STREAM_H
#define RP_DATA_STREAM_H

#include "data/data_int.h"

/* One file of a data set. What is hashed is what is loaded: the same bytes, in the same pass. */
struct rp_data_stream;

/* Opens file `index` of the source's data set; `part` names it in its key ("images"). With `gzip` a
 * file that starts as gzip does is decompressed while it is read. */
RP_NODISCARD enum rp_status rp_data_stream_open(struct rp_data_source *source, int index,
                                                const char *part, bool gzip,
                                                struct rp_data_stream **stream,
                                                struct rp_error *err);
/* Up to `want` bytes; fewer only at the end. */
RP_NODISCARD enum rp_status rp_data_stream_read(struct rp_data_stream *stream, void *bytes,
                                                size_t want, size_t *got, struct rp_error *err);
/* Exactly `want` bytes; `what` ("the header") is for the message when the file ends before. */
RP_NODISCARD enum rp_status rp_data_stream_exact(struct rp_data_stream *stream, void *bytes,
                                                 size_t want, const char *what,
                                                 struct rp_error *err);
/* Refuses a header that promises what the file cannot hold, before anything is allocated for it:
 * `total` bytes in all, header included, after decompression. */
RP_NODISCARD enum rp_status rp_data_stream_check_size(struct rp_data_stream *stream, uint64_t total,
                                                      struct rp_error *err);
/* Ends the reading with the status so far, which it returns or replaces, and frees the stream.
 * After OK, and when `whole`, nothing may follow what was read. Unless the source only describes,
 * the hash is checked (also after a failure: another file than the one wanted explains all the
 * rest) and the file is added to the files of the source. NULL is fine. */
RP_NODISCARD enum rp_status rp_data_stream_end(struct rp_data_stream *stream, enum rp_status status,
                                               bool whole, struct rp_error *err);
bool rp_data_stream_hashes(const struct rp_data_stream *stream); /* false: known, or described */
/* The file as it lies there, for reading; unmap with rp_sys_unmap. */
RP_NODISCARD enum rp_status rp_data_stream_map(const struct rp_data_stream *stream, void **map,
                                               uint64_t *bytes, struct rp_error *err);
uint64_t
rp_data_stream_size(const struct rp_data_stream *stream); /* of the file as it lies there */

/* The whole file in memory, NUL-terminated, hashed and recorded. Free with rp_mem_free. */
RP_NODISCARD enum rp_status rp_data_read_whole(struct rp_data_source *source, int index,
                                               const char *part, char **bytes, size_t *length,
                                               struct rp_error *err);

#endif
