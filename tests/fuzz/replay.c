/* Runs a fuzz target over files, for builds without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 1;
        }
        enum { MAX = 1 << 20 };
        uint8_t *data = malloc(MAX);
        size_t len = data ? fread(data, 1, MAX, f) : 0;
        fclose(f);
        /* An exact-size copy, so that a sanitizer sees a read past the end. */
        uint8_t *exact = malloc(len ? len : 1);
        if (!data || !exact)
            return 1;
        for (size_t k = 0; k < len; k++)
            exact[k] = data[k];
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
        free(data);
    }
    printf("%d inputs replayed\n", argc - 1);
    return 0;
}
