/* templates.c - the jobs of specs/, which the build puts into the program
 * (scripts/templates.cmake). */
#include "spec/spec_int.h"

#include "spec_templates.h"

#include <string.h>

/* The first line of a job says what it is: "# name: what". */
static void add_summary(const char *text, struct rp_text *out)
{
    const char *colon = strchr(text, ':'), *end = strchr(text, '\n');
    if (colon && end && colon < end) rp_text_add_bytes(out, colon + 2, (size_t)(end - colon) - 2);
}

const char *rp_template_name(int i)
{
    return i < (int)RP_COUNT(templates) ? templates[i].name : NULL;
}

void rp_template_summary(int i, struct rp_text *text)
{
    add_summary(templates[i].text, text);
}

enum rp_status rp_spec_template(const char *name, struct rp_text *text, struct rp_error *err)
{
    struct rp_text names = {0};
    for (size_t i = 0; i < RP_COUNT(templates); i++) {
        if (name && strcmp(templates[i].name, name) == 0) {
            rp_text_add(text, "%s", templates[i].text);
            rp_text_release(&names);
            return RP_STATUS_OK;
        }
        rp_text_add(&names, "%s%s", i ? ", " : "", templates[i].name);
        if (!name) {
            rp_text_add(text, "%-16s ", templates[i].name);
            add_summary(templates[i].text, text);
            rp_text_add(text, "\n");
        }
    }
    enum rp_status status = RP_STATUS_OK;
    if (name)
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "there is no file and no template %s; templates are %s", name,
                              rp_text_get(&names));
    rp_text_release(&names);
    return status;
}
