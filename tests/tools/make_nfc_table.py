"""Writes worker/nfc_table.inc.h, from the Unicode data that Python has; with --golden the cases of
tests/golden/nfc.json.

    python3 tests/tools/make_nfc_table.py > worker/nfc_table.inc.h
    python3 tests/tools/make_nfc_table.py --golden > tests/golden/nfc.json
"""
import json
import random
import sys
import unicodedata

HANGUL = range(0xac00, 0xac00 + 11172)


def decompositions():
    """Code point, the two (or one) that it is made of; whether they are joined again."""
    for c in range(0x110000):
        d = unicodedata.decomposition(chr(c))
        if d and not d.startswith("<") and c not in HANGUL:
            parts = [int(x, 16) for x in d.split()]
            text = "".join(map(chr, parts))
            joined = len(parts) == 2 and unicodedata.normalize("NFC", text) == chr(c)
            yield c, parts[0], parts[1] if len(parts) == 2 else 0, joined


def classes():
    """Ranges of equal combining classes, but for 0."""
    runs = []
    for c in range(0x110000):
        k = unicodedata.combining(chr(c))
        if not k:
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == k:
            runs[-1][1] = c
        else:
            runs.append([c, c, k])
    return runs


def put(items):
    line = "   "
    for item in items:
        if len(line) + len(item) + 1 > 100:
            print(line)
            line = "   "
        line += " " + item
    print(line)


def table():
    entries = list(decompositions())
    pairs = sorted((a, b, i) for i, (c, a, b, joined) in enumerate(entries) if joined)
    print(f"/* Made by tests/tools/make_nfc_table.py from Unicode {unicodedata.unidata_version}. */")
    print("/* clang-format off */")
    print("static const struct nfc_parts parts[] = { /* by whole */")
    put(f"{{{c:#x},{a:#x},{b:#x}}}," for c, a, b, _ in entries)
    print("};\n\n/* Those that are joined again, as indexes into parts, by first and second. */")
    print("static const uint16_t joined[] = {")
    put(f"{i}," for _, _, i in pairs)
    print("};\n\nstatic const struct nfc_class classes[] = {")
    put(f"{{{a:#x},{b:#x},{k}}}," for a, b, k in classes())
    print("};\n\n/* Seconds of class 0. */\nstatic const uint32_t seconds[] = {")
    put(f"{b:#x}," for b in sorted({b for _, b, _ in pairs}) if not unicodedata.combining(chr(b)))
    print("};\n/* clang-format on */")


def golden():
    rng = random.Random(7)
    marks = [c for a, b, _ in classes() for c in range(a, b + 1) if c < 0x3100]
    entries = list(decompositions())
    special = [0x1100, 0x1161, 0x11a8, 0xac00, 0xac01, 0x1175, 0x11c2, 0x212b, 0x2126, 0x41, 0x6f,
               0x4e00, 0x1f642, 0x958, 0xfb1d, 0x1d15e]
    cases = []
    for _ in range(500):
        text = ""
        for _ in range(rng.randint(1, 6)):
            kind = rng.randint(0, 5)
            if kind < 2:
                text += chr(rng.choice(marks))
            elif kind == 2:
                text += unicodedata.normalize("NFD", chr(rng.choice(entries)[0]))
            elif kind == 3:
                text += chr(rng.choice(entries)[0])
            elif kind == 4:
                text += chr(rng.choice(special))
            else:
                text += rng.choice("aeiouAEIOU nN")
        cases.append([text, unicodedata.normalize("NFC", text)])
    print("[" + ",\n".join(json.dumps(c) for c in cases) + "]")


golden() if "--golden" in sys.argv else table()
