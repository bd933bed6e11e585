/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands for libFuzzer where it is only to repeat what it has found: gives the target the contents
 * of each file that is named, once.
 */
#include "fuzz.h"

#define FILE_MAX (1 << 20)

int
main(int count, char **names)
{
    static uint8_t bytes[FILE_MAX];

    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");

        require(file != NULL);
        (void)LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof(bytes), file));
        require(fclose(file) == 0);
    }
    return 0;
}
