/* presets.c - models by name. A preset stands for the keys below as if they were written, so that a
 * spec with a preset has the digest of the same spec without.
 *
 * gpt2 and larger: Radford et al. 2019, table 2, with the vocabulary of the published weights. The
 * others have the shape of Llama (Touvron et al. 2023) with grouped queries: llama-tiny and
 * llama-small the sizes of the field's models of children's stories (Karpathy's llama2.c, 15M and
 * 110M), llama-1b that of TinyLlama (Zhang et al. 2024). */
#include "spec/spec_int.h"

#include <string.h>

#define RP_LLAMA " mlp=swiglu norm=rmsnorm position=rope bias=false"

static const struct {
    const char *name, *keys;
} presets[] = {
    {"gpt2", "layers=12 heads=12 width=768 context=1024 vocab=50257"},
    {"gpt2-medium", "layers=24 heads=16 width=1024 context=1024 vocab=50257"},
    {"gpt2-large", "layers=36 heads=20 width=1280 context=1024 vocab=50257"},
    {"gpt2-xl", "layers=48 heads=25 width=1600 context=1024 vocab=50257"},
    {"llama-tiny", "layers=6 heads=6 kv_heads=2 width=288 mlp_width=768 context=256" RP_LLAMA},
    {"llama-small", "layers=12 heads=12 kv_heads=4 width=768 mlp_width=2048 context=1024" RP_LLAMA},
    {"llama-1b",
     "layers=22 heads=32 kv_heads=4 width=2048 mlp_width=5632 context=2048 tied=false" RP_LLAMA},
};

bool rp_preset_value(const char *preset, const char *name, char value[32])
{
    const char *keys = NULL;
    size_t length = strlen(name);
    for (size_t i = 0; i < RP_COUNT(presets); i++)
        if (strcmp(presets[i].name, preset) == 0) keys = presets[i].keys;
    while (keys && *keys) {
        size_t n = strcspn(keys, " ");
        if (n > length + 1 && n - length <= 32 && strncmp(keys, name, length) == 0 &&
            keys[length] == '=') {
            memcpy(value, keys + length + 1, n - length - 1);
            value[n - length - 1] = '\0';
            return true;
        }
        keys += n + (keys[n] == ' ');
    }
    return false;
}
