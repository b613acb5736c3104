/* quote.c - the two ways in which foreign text gets into a job file. */
#include "launch/launch.h"

#include <string.h>

void rp_launch_add_word(struct rp_text *text, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,@%+-";
    if (!*word) rp_text_add(text, "''");
    for (const char *c = word; *c; c++) {
        bool is_plain = strchr(plain, *c) || (unsigned char)*c >= 0x80;
        if (*c == '\n' || *c == ' ') /* behind a backslash, a shell drops the one, sbatch stops at
                                      * the other */
            rp_text_add(text, "'%c'", *c);
        else
            rp_text_add(text, is_plain ? "%c" : "\\%c", *c);
    }
}

/* May it stand as lines of a literal block? Its first line decides the indentation. */
static bool is_block(const char *string, size_t length)
{
    if (length < 2 || string[length - 1] != '\n' || string[length - 2] == '\n') return false;
    if (string[0] == ' ' || string[0] == '\n') return false;
    for (size_t i = 0; i < length; i++)
        if (string[i] != '\n' && (string[i] < 0x20 || string[i] > 0x7e)) return false;
    return true;
}

/* JSON's strings are YAML's, but for characters that JSON leaves as they are and YAML does not. */
static void add_quoted(struct rp_text *text, const char *string)
{
    struct rp_text json = {0};
    rp_text_add_json(&json, string);
    for (const char *c = rp_text_get(&json); *c; c++) {
        if (*c == 0x7f)
            rp_text_add(text, "\\x7F");
        else if (strncmp(c, "\xc2\x85", 2) == 0)
            rp_text_add(text, "\\N"), c += 1;
        else if (strncmp(c, "\xe2\x80\xa8", 3) == 0 || strncmp(c, "\xe2\x80\xa9", 3) == 0)
            rp_text_add(text, c[2] == '\xa8' ? "\\L" : "\\P"), c += 2;
        else if (strncmp(c, "\xef\xbb\xbf", 3) == 0)
            rp_text_add(text, "\\uFEFF"), c += 2;
        else
            rp_text_add_bytes(text, c, 1);
    }
    rp_text_release(&json);
}

void rp_launch_add_yaml(struct rp_text *text, const char *string, int indent)
{
    size_t length = strlen(string);
    if (!is_block(string, length)) {
        add_quoted(text, string);
        return;
    }
    rp_text_add(text, "|");
    for (const char *line = string; *line;) {
        size_t n = strcspn(line, "\n");
        rp_text_add(text, "\n");
        if (n) rp_text_add(text, "%*s", indent, "");
        rp_text_add_bytes(text, line, n);
        line += n + 1;
    }
}
