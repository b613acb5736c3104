/* main.c - the door: a command by name, its status as exit code. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return rp_cli_main(argc, argv);
}
