/* variables.c - the fixed list of environment variables that could matter, and the forms in which a
 * value is taken over. A value of another form is recorded as "(set)": it could be anything. */
#include "env/env_int.h"

#include "base/sys.h"

#include <string.h>

enum form {
    FORM_NUMBERS,  /* digits and , . : - : "4", "0-3", ":4096:8" */
    FORM_LOCALE,   /* "C", "C.UTF-8", "de_DE.UTF-8" */
    FORM_WORDS,    /* one of `words` */
    FORM_TUNABLES, /* glibc.malloc.arena_max=1:... */
    FORM_HIDDEN    /* paths and lists: never taken over */
};

/* A value reaches a bit only through the libraries that the tiers above portable use. */
static const struct variable {
    const char *name;
    enum form form;
    enum rp_env_touch touch;
    const char *words;
} variables[] = {
    {"OMP_NUM_THREADS", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"OMP_WAIT_POLICY", FORM_WORDS, RP_ENV_TOUCH_NEVER, "ACTIVE PASSIVE active passive"},
    {"GOMP_CPU_AFFINITY", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"GLIBC_TUNABLES", FORM_TUNABLES, RP_ENV_TOUCH_NEVER, NULL},
    {"MALLOC_ARENA_MAX", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"MALLOC_MMAP_THRESHOLD_", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"MALLOC_TRIM_THRESHOLD_", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"LANG", FORM_LOCALE, RP_ENV_TOUCH_NEVER, NULL},
    {"LC_ALL", FORM_LOCALE, RP_ENV_TOUCH_NEVER, NULL},
    {"LC_NUMERIC", FORM_LOCALE, RP_ENV_TOUCH_NEVER, NULL},
    /* The libraries that these two bring are listed by hash. */
    {"LD_PRELOAD", FORM_HIDDEN, RP_ENV_TOUCH_NEVER, NULL},
    {"LD_LIBRARY_PATH", FORM_HIDDEN, RP_ENV_TOUCH_NEVER, NULL},
    {"CUDA_VISIBLE_DEVICES", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"CUDA_DEVICE_ORDER", FORM_WORDS, RP_ENV_TOUCH_NEVER, "FASTEST_FIRST PCI_BUS_ID"},
    {"CUDA_FORCE_PTX_JIT", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUDA_DISABLE_PTX_JIT", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"NVIDIA_TF32_OVERRIDE", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLAS_WORKSPACE_CONFIG", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLAS_EMULATE_SINGLE_PRECISION", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLAS_EMULATE_DOUBLE_PRECISION", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLAS_EMULATION_STRATEGY", FORM_WORDS, RP_ENV_TOUCH_PINNED, "default eager performant"},
    {"CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLASLT_HEURISTICS_LUT_FILE", FORM_HIDDEN, RP_ENV_TOUCH_PINNED, NULL},
    {"CUBLASLT_HEURISTICS_CACHE_CAPACITY", FORM_NUMBERS, RP_ENV_TOUCH_NEVER, NULL},
    {"CUBLASLT_DISABLE_CPU_INSTRUCTIONS_MASK", FORM_NUMBERS, RP_ENV_TOUCH_PINNED, NULL},
    /* NCCL moves bytes and adds no float of ours but at fast. */
    {"NCCL_ALGO", FORM_WORDS, RP_ENV_TOUCH_NEVER,
     "Ring Tree CollnetChain CollnetDirect NVLS NVLSTree"},
    {"NCCL_PROTO", FORM_WORDS, RP_ENV_TOUCH_NEVER, "LL LL128 Simple"},
};

/* Whether the first `length` bytes of `text` are one of the words, which blanks separate. */
static bool is_word(const char *text, size_t length, const char *words)
{
    if (length == 0) return false;
    for (const char *word = words; *word;) {
        size_t size = strcspn(word, " ");
        if (size == length && strncmp(word, text, length) == 0) return true;
        word += size;
        word += strspn(word, " ");
    }
    return false;
}

/* "C" or "POSIX" or ll or lll, perhaps _CC, perhaps . and a known encoding. */
static bool is_locale(const char *text)
{
    size_t language = strspn(text, "abcdefghijklmnopqrstuvwxyz");
    size_t length = strcspn(text, ".");
    if (!is_word(text, length, "C POSIX")) {
        if (language < 2 || language > 3) return false;
        const char *rest = text + language;
        if (*rest == '_') rest += 1 + strspn(rest + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (rest != text + length || length > language + 3) return false;
    }
    const char *encoding = text + length;
    if (*encoding == '\0') return true;
    return is_word(encoding + 1, strlen(encoding + 1),
                   "UTF-8 utf8 utf-8 ISO-8859-1 ISO-8859-15 iso88591");
}

static bool has_form(const char *value, const struct variable *variable)
{
    size_t length = strlen(value);
    switch (variable->form) {
    case FORM_NUMBERS:
        return length <= 40 && length == strspn(value, "0123456789,.:-");
    case FORM_LOCALE:
        return is_locale(value);
    case FORM_WORDS:
        return is_word(value, length, variable->words);
    case FORM_TUNABLES:
        return length <= 200 && strncmp(value, "glibc.", 6) == 0 &&
               length == strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_.=:,-");
    case FORM_HIDDEN:
        break;
    }
    return false;
}

json_t *rp_env_variables(void)
{
    json_t *set = json_object();
    for (size_t i = 0; i < RP_COUNT(variables); i++) {
        const char *value = rp_sys_env(variables[i].name);
        if (!value || !value[0]) continue;
        json_object_set_new(set, variables[i].name,
                            json_string(has_form(value, &variables[i]) ? value : "(set)"));
    }
    return set;
}

enum rp_env_touch rp_env_variable_touch(const char *name)
{
    for (size_t i = 0; i < RP_COUNT(variables); i++)
        if (strcmp(variables[i].name, name) == 0) return variables[i].touch;
    return RP_ENV_TOUCH_NEVER;
}
