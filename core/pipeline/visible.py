"""Shows characters that cannot be seen, or that look like others, by code and name.

A value with a no-break space behind it looks right, and so does a word with a Cyrillic
letter in it: an error that shows them as they are looks wrong. Every `PipelineError`
and every complaint about a command line goes through `visible`.
"""

import re
import unicodedata

# Letters and signs without ink, besides the categories of `_without_ink`.
BLANK = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
NAMES = {"\t": "TAB", "\r": "CARRIAGE RETURN", "\x1b": "ESCAPE", "\ufeff": "BYTE ORDER MARK"}
# Alphabets with letters that look Latin, by the first word of a letter's Unicode name.
SIMILAR = {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}
# Cyrillic and Greek letters that look Latin, or like a digit (О.3).
LOOKS_LATIN = set("АВЕЅІЈКМНОРСТУХЗасеѕіјорухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧνορ")

SIGNS = set("=-_.+")  # of settings and numbers; fullwidth commas and brackets belong to texts
LIKE_MINUS = "\u2010\u2011\u2012\u2013\u2212"  # hyphens, dashes of a range, the minus sign


def visible(text: str) -> str:
    """Return `text` with `<U+00A0 NO-BREAK SPACE>` in place of such characters.

    These are: characters without ink except a space within a line, and a new line; letters,
    digits and some signs of another width or style (０, ＝); letters that look Latin, in a
    word with Latin letters or with no others; dashes that look like the - before a letter or
    digit. Other scripts and accents stay as they are.
    """
    if text.isascii() and text.replace("\n", "").isprintable() and " \n" not in text + "\n":
        return text
    text = re.sub(r"[^\W\d_]+", lambda word: _word(word[0]), text)
    text = re.sub(rf"[{LIKE_MINUS}](?=[\w.\u2013])", lambda dash: _named(dash[0]), text)
    text = "".join(_named(each) if _hidden(each) else each for each in text)
    return re.sub(r" +$", lambda spaces: _named(" ") * len(spaces[0]), text, flags=re.MULTILINE)


def _word(word: str) -> str:
    """Name the letters of a word that look like those of another alphabet."""
    if any(letter.isascii() for letter in word):
        return "".join(_named(each) if _alphabet(each) in SIMILAR else each for each in word)
    return "".join(map(_named, word)) if LOOKS_LATIN.issuperset(word) else word


def _alphabet(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _hidden(character: str) -> bool:
    """Whether a character has no ink, or is an ASCII one of another width or style."""
    if character.isascii():
        return not (character.isprintable() or character == "\n")
    category = unicodedata.category(character)
    variation = "VARIATION SELECTOR" in unicodedata.name(character, "")
    # Control, format, surrogate, private, unassigned; spaces, lines and paragraphs.
    if category[0] in "CZ" or character in BLANK or variation:
        return True
    plain = _plain(character)
    return plain.isascii() and (plain.isalnum() or plain in SIGNS)


def _plain(character: str) -> str:
    """Return the character that a fullwidth or mathematical one is."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    plain = unicodedata.normalize("NFKC", character)
    return plain if kind in ("<wide>", "<font>") else character


def _named(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is not UTF-8
        return f"<byte 0x{code - 0xDC00:02X}>"
    name = NAMES.get(character) or unicodedata.name(character, "")
    return f"<U+{code:04X} {name}>".replace(" >", ">")
