"""Which characters a rendered plan can show, and what stands for the others.

Invariant: whatever a plan's text holds, rendering it succeeds, and no character disappears or acts on the page. PDF/UA
refuses a document with a character that no font has, so one emoji in a parent's words would otherwise stop a plan from
being issued. Such a character, and any that would change what is around it (control characters, and the overrides of
writing direction that can make a text read otherwise than it is stored), is printed as its number: ``[U+1F600]``.
Next: ``rendering.py``.
"""

import re
import unicodedata

# What the fonts beside this file and those inside the `typst` wheel can show, as PDF/UA demands: found by asking Typst
# for every assigned character (tests/unit/test_rendering.py asks again). Other scripts: add a font, then these ranges.
_SHOWN = """
    21-7e a1-ac ae-377 37a-37f 384-38a 38c 38e-3a1 3a3-52f 531-556 559-58a 58d-58f 5be 5c0 5c3 5c6 5d0-5ea 5ef-5f4
    606-60f 61b 61d-655 660-6d5 6de 6e5-6e6 6e9 6ee-6ff 750-77f 870-88e 8a0-8c9 900-983 985-98c 98f-990 993-9a8 9aa-9b0
    9b2 9b6-9b9 9bc-9c4 9c7-9c8 9cb-9ce 9d7 9dc-9dd 9df-9e3 9e6-9fe a01-a03 a05-a0a a0f-a10 a13-a28 a2a-a30 a32-a33
    a35-a36 a38-a39 a3c a3e-a42 a47-a48 a4b-a4d a51 a59-a5c a5e a66-a76 a81-a83 a85-a8d a8f-a91 a93-aa8 aaa-ab0 ab2-ab3
    ab5-ab9 abc-ac5 ac7-ac9 acb-acd ad0 ae0-ae3 ae6-af1 af9-aff 10d0-10ff 1d00-1d7f 1e00-1f15 1f18-1f1d 1f20-1f45
    1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fc4 1fc6-1fd3 1fd6-1fdb 1fdd-1fef 1ff2-1ff4 1ff6-1ffe
    2010-2027 2030-205e 2070-2071 2074-208e 2090-209c 20a0-20c0 2100-2184 2189 2190-23ff 2460-262f 2638-268b 2690-269c
    26a0-26a7 26ac-26b2 2701-2704 2706-2709 270c-2727 2729-274b 274d 274f-2752 2756 2758-275e 2761-277f 2794 2798-27af
    27b1-2b73 2b76-2b95 2b97-2bff 2c60-2c7f a720-a7ca fb00-fb06 fb13-fb17 fb1d fb1f-fb36 fb38-fb3c fb3e fb40-fb41
    fb43-fb44 fb46-fbc2 fbd3-fd8f fd92-fdc7 fdf0-fdff fe70-fe74 fe76-fefc
"""
# Shown as nothing and harmless: spaces, soft hyphen, joiners, marks of direction, isolates, variation selectors.
_INVISIBLE = "20 a0 ad 61c 2000-200f 202f 205f 2060 2066-2069 fe00-fe0f"
# What any font has, alone or combined: for a text that the fonts can show in parts but not together.
_PLAIN = "20-7e a0-17f"

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_BYTE_ORDER_MARK = "\ufeff"


def ranges(table: str) -> list[tuple[int, int]]:
    """First and last code point of each range of a table such as ``21-7e a1``."""
    pairs = (entry.partition("-") for entry in table.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in pairs]


def shown() -> list[str]:
    """Every visible character that a plan can show."""
    return [chr(point) for first, last in ranges(_SHOWN) for point in range(first, last + 1)]


def _outside(table: str) -> re.Pattern[str]:
    inside = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges(table))
    return re.compile(f"[^{inside}\n]+")


_UNSHOWN = _outside(_SHOWN + _INVISIBLE)
_NOT_PLAIN = _outside(_PLAIN)


def _numbers(found: re.Match[str]) -> str:
    return "[" + " ".join(f"U+{ord(character):04X}" for character in found[0]) + "]"


def printable(text: str, *, plain: bool = False) -> str:
    """The text as it can be printed: composed (NFC), lines ended by ``\\n``, unshowable characters as their numbers.

    ``plain`` keeps only the characters of Western and Central European languages as they are.
    """
    text = _LINE_ENDS.sub("\n", text.replace(_BYTE_ORDER_MARK, "")).expandtabs(4)
    return (_NOT_PLAIN if plain else _UNSHOWN).sub(_numbers, unicodedata.normalize("NFC", text))
