# common.sh - what the scripts share. Sourced, never run; it leaves the shell in the folder of the project.

RP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$RP_ROOT"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    RP_BOLD=$'\033[1m' RP_PLAIN=$'\033[0m'
else
    RP_BOLD='' RP_PLAIN=''
fi

say() { printf '%s\n' "$*"; }
heading() { printf '\n%s== %s%s\n' "$RP_BOLD" "$*" "$RP_PLAIN"; }

# die CODE TEXT...: the last word of a script, on standard error.
die() {
    local code=$1
    shift
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit "$code"
}

# usage FILE: prints the comment at the top of a script, which is its help.
usage() {
    sed -n '2,/^[^#]/{/^#/!d; s/^# \{0,1\}//; p}' "$1"
}

processors() { nproc 2>/dev/null || echo 1; }

# configure PRESET [CMAKE ARGUMENTS...]: a cache made elsewhere, or for another generator, is replaced.
configure() {
    local preset=$1 cache=build/$1/CMakeCache.txt
    shift
    if [ -f "$cache" ] &&
        ! { grep -qx 'CMAKE_GENERATOR:INTERNAL=Ninja' "$cache" &&
            grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$RP_ROOT" "$cache"; }; then
        rm -rf "$cache" "build/$preset/CMakeFiles"
    fi
    cmake --preset "$preset" -G Ninja "$@"
}
