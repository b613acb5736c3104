#include "base/base.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct status_row {
    enum rp_status status;
    const char *name, *meaning, *advice;
};

static const struct status_row status_rows[] = {
#define RP_STATUS_ROW(name, code, meaning, advice) {RP_STATUS_##name, #name, meaning, advice},
    RP_STATUS_LIST(RP_STATUS_ROW)
#undef RP_STATUS_ROW
};

static const struct status_row *find_row(enum rp_status status)
{
    for (size_t i = 0; i < RP_COUNT(status_rows); i++)
        if (status_rows[i].status == status) return &status_rows[i];
    return &status_rows[0];
}

enum rp_status rp_error_set(struct rp_error *err, enum rp_status status, const char *format, ...)
{
    if (!err || err->status != RP_STATUS_OK) return status;
    char raw[RP_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    err->status = status;
    rp_utf8_show(raw, true, err->text, sizeof err->text);
    return status;
}

void rp_error_clear(struct rp_error *err)
{
    if (!err) return;
    err->status = RP_STATUS_OK;
    err->text[0] = '\0';
}

const char *rp_status_name(enum rp_status status)
{
    return find_row(status)->name;
}
const char *rp_status_meaning(enum rp_status status)
{
    return find_row(status)->meaning;
}
const char *rp_status_advice(enum rp_status status)
{
    return find_row(status)->advice;
}
