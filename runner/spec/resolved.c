/* resolved.c - a spec written out again with every value present: YAML that gives the same digests.
 */
#include "spec/flat.h"

#include <string.h>

static void write_map(const struct rp_value *map, int indent, struct rp_text *text);

/* Does anything stand below this map? */
static bool has_values(const struct rp_value *map)
{
    for (int i = 0; i < map->n; i++) {
        const struct rp_value *value = &map->item[i];
        if (value->present && (value->key->type != RP_TYPE_MAP || has_values(value))) return true;
    }
    return false;
}

/* `relu`, or `conv2d:` with its options below; what stands before it ends in "-" or "key:". */
static void write_variant(const struct rp_value *value, int indent, bool in_list,
                          struct rp_text *text)
{
    if (!has_values(value->item)) {
        rp_text_add(text, " %s\n", value->text);
        return;
    }
    if (in_list)
        rp_text_add(text, " %s:\n", value->text);
    else
        rp_text_add(text, "\n%*s%s:\n", indent, "", value->text);
    write_map(value->item, indent + (in_list ? 4 : 2), text);
}

/* A pair of equal numbers and a list of one are written as that one where the schema allows it. */
static void write_scalars(const struct rp_value *value, struct rp_text *text)
{
    struct rp_text first = {0}, second = {0};
    bool one = value->key->form == RP_FORM_EITHER && value->n == 1;
    if (value->key->form == RP_FORM_PAIR) {
        rp_value_text(&value->item[0], false, &first);
        rp_value_text(&value->item[1], false, &second);
        one = strcmp(rp_text_get(&first), rp_text_get(&second)) == 0;
    }
    rp_text_add(text, " ");
    rp_value_text(one ? &value->item[0] : value, false, text);
    rp_text_add(text, "\n");
    rp_text_release(&first);
    rp_text_release(&second);
}

static void write_value(const struct rp_value *value, int indent, struct rp_text *text)
{
    if (value->key->type == RP_TYPE_MAP) {
        rp_text_add(text, "\n");
        write_map(value, indent, text);
    } else if (value->key->type != RP_TYPE_VARIANT) {
        write_scalars(value, text);
    } else if (!value->list) {
        write_variant(value, indent, false, text);
    } else {
        rp_text_add(text, value->n ? "\n" : " []\n");
        for (int i = 0; i < value->n; i++) {
            rp_text_add(text, "%*s-", indent, "");
            write_variant(&value->item[i], indent, true, text);
        }
    }
}

static void write_map(const struct rp_value *map, int indent, struct rp_text *text)
{
    for (int i = 0; i < map->n; i++) {
        const struct rp_value *value = &map->item[i];
        if (!value->present) continue;
        if (value->key->type == RP_TYPE_MAP && !has_values(value)) continue;
        rp_text_add(text, "%*s%s:", indent, "", value->name);
        write_value(value, indent + 2, text);
    }
}

void rp_spec_resolved(const struct rp_spec *spec, struct rp_text *text)
{
    write_map(spec->tree->value, 0, text);
}
