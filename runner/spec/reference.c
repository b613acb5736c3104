/* reference.c - specs/README.md: the key reference, from the schema table. */
#include "spec/spec_int.h"

#include <string.h>

static void add_cell(struct rp_text *text, const char *cell)
{
    for (const char *c = cell; *c; c++) {
        if (*c == '|') rp_text_add(text, "\\");
        rp_text_add_bytes(text, c, 1);
    }
}

static void add_row(const struct rp_key *key, struct rp_text *text)
{
    struct rp_text cell = {0};
    rp_text_add(text, "| `%s` | ", rp_key_display(key->path));
    rp_key_expected(key, false, &cell);
    add_cell(text, rp_text_get(&cell));
    rp_text_add(text, " | ");
    cell.length = 0;
    rp_key_default_words(key, &cell);
    add_cell(text, rp_text_get(&cell));
    rp_text_add(text, " | ");
    add_cell(text, key->help);
    cell.length = 0;
    rp_key_when_words(key, &cell);
    if (*key->when) rp_text_add(text, " (with `");
    if (*key->when) add_cell(text, rp_text_get(&cell));
    rp_text_add(text, *key->when ? "`) |" : " |");
    rp_text_add(text, " %s |\n", rp_rule_words(rp_key_rule(key)));
    rp_text_release(&cell);
}

static void add_table(const char *start, struct rp_text *text)
{
    size_t length = strlen(start);
    rp_text_add(text, "\n| key | value | default | what it is | digest |\n"
                      "| --- | --- | --- | --- | --- |\n");
    for (int row = 0; row < rp_schema_rows; row++) {
        const char *path = rp_schema[row].path;
        bool in = strncmp(path, start, length) == 0 &&
                  (path[length] == '.' || path[length] == '\0' || length == 0);
        if (length == 0) in = path[0] != '<' && !strchr(path, '.');
        if (in) add_row(&rp_schema[row], text);
    }
}

void rp_spec_reference(struct rp_text *text)
{
    static const struct {
        const char *start, *title;
    } parts[] = {
        {"", "The top level"},
        {"environment", "environment"},
        {"data", "data"},
        {"<dataset>", "A data set (`data.train`, `data.valid`, `data.test`)"},
        {"<transform>", "Transforms (items of `data.transform`)"},
        {"model", "model"},
        {"<layer>", "Layers (items of `model.layers`)"},
        {"<init>", "Initial weights (`init` of a layer)"},
        {"train", "train"},
        {"<loss>", "Losses (`train.loss`)"},
        {"eval", "eval"},
        {"checkpoint", "checkpoint"},
        {"resources", "resources"},
        {"log", "log"},
    };
    rp_text_add(text, "# Jobs that run, and every key of a spec\n\n"
                      "This page is written by `reprise schema --reference` from "
                      "`runner/spec/schema_v1.def`; a test fails when it is stale.\n"
                      "`reprise-v1.schema.json` says the same to editors that know JSON Schema.\n\n"
                      "| job | what |\n| --- | --- |\n");
    for (int i = 0; rp_template_name(i); i++) {
        rp_text_add(text, "| [%s](%s.yaml) | ", rp_template_name(i), rp_template_name(i));
        rp_template_summary(i, text);
        rp_text_add(text, " |\n");
    }
    rp_text_add(
        text,
        "\nA number that has a unit is written with it, singular or plural: `10k steps`, "
        "`1 epoch`, `3 %%` (of `train.for`), `10 min`.\n"
        "`k`, `M` and `B` stand for thousand, million and billion. Paths start at the "
        "folder of the spec, or at `--data DIR`; with that, a file that is not at its absolute "
        "path is found by its name in DIR.\n"
        "The last column says in which digest a key enters: *numeric* can change a bit of "
        "the model, *policy* is when to evaluate,\n"
        "save and log, *place* is where it runs. Keys that have their default enter no "
        "digest; an empty column means as the key above it.\n");
    for (size_t i = 0; i < RP_COUNT(parts); i++) {
        rp_text_add(text, "\n## %s\n", parts[i].title);
        add_table(parts[i].start, text);
    }
}
