/* tree.c - YAML into nodes, through libyaml's events. What a job spec has no use for and what makes
 * one text mean two things is refused: anchors, aliases, tags, merge keys, several documents,
 * repeated keys. libyaml reads YAML 1.1 syntax; what a scalar means is decided in scalar.c by
 * YAML 1.2. */
#include "spec/spec_int.h"

#include "base/utf8.h"

#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    struct rp_arena *arena;
    struct rp_problems *problems;
    const char *set;
    const char *bytes;
    size_t n_bytes;
    int depth, n_nodes;
    bool failed; /* the rest of the text cannot be read */
};

static struct rp_spec_place place_of(yaml_mark_t mark)
{
    return (struct rp_spec_place){(int)mark.line + 1, (int)mark.column + 1};
}

#define COMPLAIN(reader, mark, ...)                                                                \
    rp_problems_add((reader)->problems, place_of(mark), (reader)->set, __VA_ARGS__)

/* libyaml's words, and what they mean to somebody who writes a job. */
static const struct {
    const char *theirs, *ours;
} syntax_errors[] = {
    {"mapping values are not allowed in this context",
     "a `:` that cannot be here; is the line above indented as it should be, or a quote missing?"},
    {"could not find expected ':'", "a key without `:`; every line here is `key: value`"},
    {"did not find expected key",
     "a key was expected here; keys of one block start in the same column"},
    {"did not find expected '-' indicator",
     "`-` was expected here; items of one list start in the same column"},
    {"did not find expected ',' or '}'", "`,` or `}` was expected here"},
    {"did not find expected ',' or ']'", "`,` or `]` was expected here"},
    {"did not find expected node content", "a value was expected here"},
    {"did not find expected <document start>",
     "the document ends above, but text follows; keys at the top start in column 1"},
    {"found character that cannot start any token",
     "a character that cannot start a value; put the value in quotes"},
    {"found unexpected end of stream", "a quote is opened and never closed"},
    {"block sequence entries are not allowed in this context",
     "a list item `-` cannot be here; start the list on a new line"},
    {"found unknown escape character",
     "no such escape in double quotes; write `\\\\` for a backslash"},
};

/* Is there a tab where the scanner stopped? Its index counts characters. */
static bool is_tab(const struct reader *reader, size_t index)
{
    size_t i = 0;
    for (uint32_t c = 0; index > 0 && i < reader->n_bytes; index--) {
        int n = rp_utf8_character(reader->bytes + i, reader->n_bytes - i, &c);
        i += (size_t)(n ? n : 1);
    }
    return i < reader->n_bytes && reader->bytes[i] == '\t';
}

static void complain_of_syntax(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    yaml_mark_t mark = parser->problem_mark;
    const char *problem = parser->problem ? parser->problem : "the text is not YAML";
    const char *sentence = problem, *open = NULL;
    bool at_end = mark.index >= reader->n_bytes;
    for (size_t i = 0; i < RP_COUNT(syntax_errors); i++)
        if (strcmp(problem, syntax_errors[i].theirs) == 0) sentence = syntax_errors[i].ours;
    /* what was opened and what was left unsaid lies before the place where it is noticed */
    if (strcmp(problem, "did not find expected ',' or '}'") == 0) open = "{";
    if (strcmp(problem, "did not find expected ',' or ']'") == 0) open = "[";
    if (strcmp(problem, "found unexpected end of stream") == 0 ||
        strcmp(problem, "could not find expected ':'") == 0 || (open && at_end))
        mark = parser->context_mark;
    if (strcmp(problem, "found character that cannot start any token") == 0 &&
        is_tab(reader, mark.index))
        sentence = "a tab; write spaces";
    if (parser->error == YAML_MEMORY_ERROR) sentence = "out of memory";
    reader->failed = true;
    if (open && at_end)
        COMPLAIN(reader, mark, "`%s` is opened and never closed", open);
    else if (open)
        COMPLAIN(reader, mark, "%s; the `%s` is on line %d", sentence, open,
                 (int)parser->context_mark.line + 1);
    else
        COMPLAIN(reader, mark, "%s", sentence);
}

/* The next event, owned by the caller. False after a syntax error. */
static bool next_event(struct reader *reader, yaml_event_t *event)
{
    if (reader->failed) return false;
    if (yaml_parser_parse(&reader->parser, event)) return true;
    complain_of_syntax(reader);
    return false;
}

static void check_properties(struct reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor)
        COMPLAIN(reader, event->start_mark,
                 "an anchor (`&`); a spec repeats what it means, or quotes the text");
    if (tag)
        COMPLAIN(reader, event->start_mark,
                 "a tag (`!`); types come from the key, quote the text if it starts with `!`");
}

static struct rp_node *new_node(struct reader *reader, enum rp_node_kind kind,
                                const yaml_event_t *event)
{
    struct rp_node *node = rp_arena_new(reader->arena, sizeof *node);
    node->kind = kind;
    node->at = place_of(event->start_mark);
    node->set = reader->set;
    if (++reader->n_nodes > RP_SPEC_MAX_NODES && !reader->failed) {
        reader->failed = true;
        COMPLAIN(reader, event->start_mark, "more than %d values; a spec is a short text",
                 RP_SPEC_MAX_NODES);
    }
    return node;
}

static struct rp_node *read_value(struct reader *reader, const yaml_event_t *event);

static void check_key(struct reader *reader, const struct rp_node *map, const struct rp_node *key)
{
    if (key->plain && strcmp(key->text, "<<") == 0) {
        rp_problems_add(reader->problems, key->at, reader->set,
                        "a merge key (`<<`); a spec repeats what it means");
        return;
    }
    struct rp_text quoted = {0};
    rp_spec_quote(&quoted, key->text, key->length, 60);
    if (strlen(key->text) != key->length)
        rp_problems_add(reader->problems, key->at, reader->set, "a key with a NUL in it: `%s`",
                        rp_text_get(&quoted));
    for (int i = 0; i < map->n; i++)
        if (strcmp(map->entry[i].key, key->text) == 0) {
            rp_problems_add(reader->problems, key->at, reader->set,
                            "`%s` is given twice; the first is on line %d", rp_text_get(&quoted),
                            map->entry[i].key_at.line);
            break;
        }
    rp_text_release(&quoted);
}

static void read_map(struct reader *reader, struct rp_node *map)
{
    yaml_event_t event;
    while (next_event(reader, &event)) {
        bool end = event.type == YAML_MAPPING_END_EVENT;
        struct rp_node *key = end ? NULL : read_value(reader, &event);
        yaml_event_delete(&event);
        if (end) return;
        if (key->kind != RP_NODE_SCALAR && key->kind != RP_NODE_BAD)
            rp_problems_add(reader->problems, key->at, reader->set,
                            "a key must be a word, not a %s",
                            key->kind == RP_NODE_LIST ? "list" : "map");
        if (!next_event(reader, &event)) return;
        struct rp_node *value = read_value(reader, &event);
        yaml_event_delete(&event);
        if (key->kind != RP_NODE_SCALAR) continue;
        check_key(reader, map, key);
        bool merge = key->plain && strcmp(key->text, "<<") == 0;
        if (!merge && !rp_node_get(map, key->text))
            rp_node_add(reader->arena, map, key->text, key->at, value);
    }
}

static void read_list(struct reader *reader, struct rp_node *list)
{
    yaml_event_t event;
    while (next_event(reader, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        struct rp_node *item = end ? NULL : read_value(reader, &event);
        yaml_event_delete(&event);
        if (end) return;
        rp_node_add(reader->arena, list, NULL, item->at, item);
    }
}

static struct rp_node *read_value(struct reader *reader, const yaml_event_t *event)
{
    check_properties(reader, event);
    struct rp_node *node = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        node = new_node(reader, RP_NODE_SCALAR, event);
        node->text = rp_arena_text(reader->arena, (const char *)event->data.scalar.value,
                                   event->data.scalar.length);
        node->length = event->data.scalar.length;
        node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    } else if (event->type == YAML_MAPPING_START_EVENT ||
               event->type == YAML_SEQUENCE_START_EVENT) {
        bool map = event->type == YAML_MAPPING_START_EVENT;
        node = new_node(reader, map ? RP_NODE_MAP : RP_NODE_LIST, event);
        if (++reader->depth > RP_SPEC_MAX_DEPTH && !reader->failed) {
            reader->failed = true;
            COMPLAIN(reader, event->start_mark, "nested deeper than %d", RP_SPEC_MAX_DEPTH);
        }
        if (map)
            read_map(reader, node);
        else
            read_list(reader, node);
        reader->depth--;
    } else {
        node = new_node(reader, RP_NODE_BAD, event);
        if (event->type == YAML_ALIAS_EVENT)
            COMPLAIN(reader, event->start_mark,
                     "an alias (`*`); a spec repeats what it means, or quotes the text");
    }
    return node;
}

static void complain_of_second_document(struct reader *reader, const yaml_event_t *event)
{
    COMPLAIN(reader, event->start_mark, "a second document (`---`); one file is one job");
    reader->failed = true;
}

struct rp_node *rp_tree_read(const char *bytes, size_t n_bytes, const char *set,
                             struct rp_arena *arena, struct rp_problems *problems)
{
    struct reader reader = {.arena = arena, .problems = problems, .set = set};
    struct rp_node *root = NULL;
    if (!yaml_parser_initialize(&reader.parser)) {
        rp_problems_add(problems, (struct rp_spec_place){0, 0}, set, "out of memory");
        problems->stop = true;
        return NULL;
    }
    if (n_bytes >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        bytes += 3;
        n_bytes -= 3;
    }
    reader.bytes = bytes;
    reader.n_bytes = n_bytes;
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)bytes, n_bytes);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    bool end = false;
    for (yaml_event_t event; !end && next_event(&reader, &event); yaml_event_delete(&event)) {
        end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            if (root)
                complain_of_second_document(&reader, &event);
            else if (event.data.document_start.version_directive ||
                     event.data.document_start.tag_directives.start !=
                         event.data.document_start.tag_directives.end)
                COMPLAIN(&reader, event.start_mark, "a directive (`%%`); a spec needs none");
        } else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_END_EVENT &&
                   !end) {
            root = read_value(&reader, &event);
        }
    }
    yaml_parser_delete(&reader.parser);
    if (reader.failed) problems->stop = true;
    return reader.failed ? NULL : root;
}

struct rp_node *rp_node_get(const struct rp_node *map, const char *key)
{
    for (int i = 0; i < map->n; i++)
        if (map->entry[i].key && strcmp(map->entry[i].key, key) == 0) return map->entry[i].value;
    return NULL;
}

void rp_node_add(struct rp_arena *arena, struct rp_node *node, const char *key,
                 struct rp_spec_place key_at, struct rp_node *value)
{
    if (node->n == node->capacity) {
        int capacity = node->capacity ? 2 * node->capacity : 8;
        struct rp_node_entry *entry = rp_arena_new(arena, sizeof *entry * (size_t)capacity);
        if (node->n) memcpy(entry, node->entry, sizeof *entry * (size_t)node->n);
        node->entry = entry;
        node->capacity = capacity;
    }
    struct rp_node_entry *entry = &node->entry[node->n++];
    entry->key = key ? rp_arena_text(arena, key, strlen(key)) : NULL;
    entry->key_at = key_at;
    entry->value = value;
}

struct rp_node *rp_node_scalar(struct rp_arena *arena, const char *text, bool plain)
{
    struct rp_node *node = rp_arena_new(arena, sizeof *node);
    node->kind = RP_NODE_SCALAR;
    node->length = strlen(text);
    node->text = rp_arena_text(arena, text, node->length);
    node->plain = plain;
    return node;
}
