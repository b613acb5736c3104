/* sim_limits.cpp - what only nvcc knows of a kernel: threads of its __launch_bounds__, registers,
 * static shared memory. From the table that scripts/check-ptx --limits writes; a kernel is found in
 * it by the symbol that this processor's code has for it. */
#include "sim_int.h"

#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <link.h>
#include <map>

namespace rp_sim
{

namespace
{

typedef std::map<uintptr_t, std::string> Symbols;

/* Names of the functions of a file by their address in it; static ones too, which dladdr does not
 * know. */
Symbols symbols_of(const char *path)
{
    Symbols found;
    std::ifstream file(path, std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const char *at = all.data();
    if (all.size() < sizeof(ElfW(Ehdr)) || memcmp(at, ELFMAG, SELFMAG) != 0) return found;
    const auto *head = reinterpret_cast<const ElfW(Ehdr) *>(at);
    const auto *section = reinterpret_cast<const ElfW(Shdr) *>(at + head->e_shoff);
    for (unsigned i = 0; i < head->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB) continue;
        const auto *symbol = reinterpret_cast<const ElfW(Sym) *>(at + section[i].sh_offset);
        const char *names = at + section[section[i].sh_link].sh_offset;
        for (size_t k = 0; k < section[i].sh_size / sizeof *symbol; k++)
            if ((symbol[k].st_info & 15) == STT_FUNC && symbol[k].st_value)
                found[symbol[k].st_value] = names + symbol[k].st_name;
    }
    return found;
}

/* As nvcc writes it, which has no mark for static. */
std::string symbol_of(const void *kernel)
{
    static std::map<std::string, Symbols> files;
    Dl_info info;
    if (!dladdr(kernel, &info) || !info.dli_fname) return "";
    auto file = files.find(info.dli_fname);
    if (file == files.end()) file = files.emplace(info.dli_fname, symbols_of(info.dli_fname)).first;
    uintptr_t address = (uintptr_t)kernel, base = (uintptr_t)info.dli_fbase;
    auto found = file->second.find(address - base);
    if (found == file->second.end()) found = file->second.find(address);
    if (found == file->second.end()) return "";
    std::string name = found->second;
    return name.compare(0, 3, "_ZL") == 0 ? "_Z" + name.substr(3) : name;
}

std::map<std::string, Limits> read_table(const char *path)
{
    std::map<std::string, Limits> table;
    std::ifstream file(path);
    std::string symbol;
    Limits k;
    while (file >> symbol >> k.max_threads >> k.registers >> k.shared) {
        Limits &known = table[symbol]; /* a line for each architecture: the largest need counts */
        known.max_threads = k.max_threads;
        if (k.registers > known.registers) known.registers = k.registers;
        if (k.shared > known.shared) known.shared = k.shared;
    }
    return table;
}

} // namespace

std::string limits_fault(const Launch &l, const void *kernel)
{
    static std::map<std::string, std::map<std::string, Limits>> tables;
    if (!options.limits_file) return "";
    auto table = tables.find(options.limits_file);
    if (table == tables.end())
        table = tables.emplace(options.limits_file, read_table(options.limits_file)).first;
    std::string symbol = symbol_of(kernel);
    auto found = table->second.find(symbol);
    if (found == table->second.end())
        return format("'%s' is not in the table of limits", symbol.c_str());
    const Limits &k = found->second;
    if (k.max_threads && l.block_threads > k.max_threads)
        return format("%u threads, __launch_bounds__ says %u", l.block_threads, k.max_threads);
    unsigned warps = (l.block_threads + 31) / 32, per_warp = (k.registers * 32 + 255) / 256 * 256;
    if (warps * per_warp > 65536)
        return format("%u threads with %u registers each: more than 64 Ki", l.block_threads,
                      k.registers);
    if (k.shared + l.dynamic_shared > l.shared_most)
        return format("%u bytes of static and %zu of dynamic shared memory, the limit is %zu",
                      k.shared, l.dynamic_shared, l.shared_most);
    return "";
}

} // namespace rp_sim
