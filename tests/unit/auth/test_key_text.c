#include "auth/key_text.h"

#include "tests/unit/check.h"

int main(void)
{
    struct secret key, other;
    for (int i = 0; i < 200; i++) {
        enum key_kind kind = i % 2 ? KEY_ADMIN : KEY_API;
        key_text_make(kind, &key);
        size_t len = strlen(key.text);
        CHECK_INT(len, (kind == KEY_API ? 6 : 9) + 43 + 6);
        CHECK(key_text_valid(kind, key.text, len));
        CHECK(!key_text_valid(kind == KEY_API ? KEY_ADMIN : KEY_API, key.text, len));
        CHECK(!key_text_valid(kind, key.text, len - 1));
        /* Any one character changed is noticed. */
        for (size_t at = 0; at < len; at++) {
            other = key;
            other.text[at] = other.text[at] == 'x' ? 'y' : 'x';
            CHECK(!key_text_valid(kind, other.text, len));
        }
        char prefix[KEY_PREFIX_SIZE];
        key_text_prefix(&key, prefix);
        CHECK_INT(strlen(prefix), (kind == KEY_API ? 6 : 9) + 4);
        CHECK(strncmp(prefix, key.text, strlen(prefix)) == 0);
    }
    key_text_make(KEY_API, &other);
    CHECK(strcmp(key.text, other.text) != 0);
    CHECK(!key_text_valid(KEY_API, "", 0));
    char hex[65];
    key_text_hash_hex("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    return check_done();
}
