"""Bytes that are not UTF-8 → the code page they most probably are in, for the advice to name.

Each candidate decodes a sample; the one whose letters stand as letters do in words is named. It is advice: the sample
is shown as it would read, so that whoever wrote it sees at once whether it is right.
"""

from __future__ import annotations

import codecs
import unicodedata

# Python's name → iconv's, in the order in which equals are named.
CODE_PAGES = {
    "cp1252": "CP1252",
    "mac_roman": "MACINTOSH",
    "shift_jis": "SHIFT_JIS",
    "cp932": "CP932",
    "euc_jp": "EUC-JP",
    "gb18030": "GB18030",
    "big5": "BIG5",
    "euc_kr": "EUC-KR",
    "cp1251": "CP1251",
    "koi8_r": "KOI8-R",
    "cp1250": "CP1250",
    "cp1253": "CP1253",
    "cp1254": "CP1254",
    "cp1255": "CP1255",
    "cp1256": "CP1256",
    "cp850": "CP850",
    "cp866": "CP866",
}
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
WESTERN = set("àáâãäåæçèéêëìíîïñòóôõöøùúûüýßœÀÁÂÄÅÆÇÈÉÊÑÓÖØÚÜ")
TURKISH, CENTRAL = set("ğşıİĞŞ"), set("ąćęłńśźżěščřžůőűťďňľĄĆĘŁŚŻĚŠČŘŽ")
TYPOGRAPHIC = set("’‘“”–—…•«»„€£©®°")
COMMON_HAN = set(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里用道行"
    "所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實日很高兴興问問"
    "题題买買东東西质質量差快服务務送货貨态態度喜欢歡非常太"
)
COMMON_HANGUL = set(
    "이가다는은을를의에고하지도로기사한나정대일자시해인리어스수아보라전부제그만상서좋요습니있없말주너무품배송려느게것같아안되들면과여와"
    "거영화재미감동최악구매추천비싸친절맛장트오우연성공조원세계간점"
)
COMMON_KANJI = set("日本人大年一国会中出事時行見月後前生上下今方的新気味良悪高買品店物思使少分手水電話最美入早届")


def likely(raw: bytes) -> tuple[str, str]:
    """The code page that `raw` is most probably in, as iconv calls it, and `raw` as it reads there."""
    for mark, name in MARKS.items():
        if raw.startswith(mark):
            return name, raw.decode(name, "ignore")
    if has_nuls(raw):
        name = "UTF-16LE" if raw[1::2].count(0) >= raw[::2].count(0) else "UTF-16BE"
        return name, raw.decode(name, "ignore")
    scored = []
    for page, name in CODE_PAGES.items():
        try:
            text = raw.decode(page)
        except UnicodeDecodeError:
            continue
        scored.append((_plausibility(text), name, text))
    if not scored:  # none takes every byte: cp1252 has five holes
        return "LATIN1", raw.decode("latin1")
    _, name, text = max(scored, key=lambda entry: entry[0])  # the first of equals
    return name, text


def has_nuls(raw: bytes) -> bool:
    """Whether every other byte or so is 0, as in UTF-16 without a mark."""
    return len(raw) > 3 and raw.count(0) > len(raw) / 4


def _plausibility(text: str) -> float:
    """How much the signs beyond ASCII look like words, a sign: about 1 where they do, below 0 where they do not."""
    points = [_points(text, i) for i, sign in enumerate(text) if not sign.isascii()]
    return sum(points) / len(points) if points else 0.0


def _points(text: str, i: int) -> float:
    sign, before, after = text[i], text[i - 1 : i], text[i + 1 : i + 2]
    if sign in TYPOGRAPHIC:  # a closing quote or apostrophe touches a word, an opening one begins one
        fits = (before != " " if sign in "’”" else not before.isalnum()) and before != after
        return 1.05 if fits or (sign == "’" and before.isalpha()) or (before, after) == (" ", " ") else 0.2
    kind = unicodedata.category(sign)
    if kind[0] == "C":
        return -3.0
    if kind[0] in "SNP" and unicodedata.east_asian_width(sign) != "W":
        opening = sign in "¿¡" and after.isalpha() and not before.isalnum()
        return 1.0 if opening else 0.1 if sign in "¿¡·、。" else -0.6
    if kind == "Zs":
        return 0.2
    name = unicodedata.name(sign, "")
    if name.startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")):
        return _wide_points(sign, name, before, after)
    script = name.partition(" ")[0]
    if kind[0] == "L" and script != "LATIN":
        alone = not any(unicodedata.name(other, "").startswith(script) for other in (before, after) if other)
        turned = before.isalpha() and before.islower() and sign.isupper()
        mixed = any(other.isascii() and other.isalpha() for other in (before, after))
        shouted = before.isupper() and sign.isupper()  # KOI8 read as Windows, and the other way round
        return 0.95 - 1.5 * alone - 1.0 * turned - 1.5 * mixed - 0.3 * shouted
    if kind[0] == "L":
        turned = before.isalpha() and before.islower() and sign.isupper()  # cafŽ
        known = 1.0 if sign in WESTERN else 0.9 if sign in TURKISH | CENTRAL else 0.3
        alone = not (before.isalpha() or after.isalpha()) and sign not in "àÀéÉøØåÅœ"
        crowded = not before.isascii() and before.isalpha() and not after.isascii() and after.isalpha()
        return known - 1.5 * turned - 1.0 * alone - 0.6 * crowded
    return -0.5


def _wide_points(sign: str, name: str, before: str, after: str) -> float:
    mixed = any(other.isascii() and other.isalpha() for other in (before, after))
    if name.startswith("HALFWIDTH"):
        return -0.5
    if name.startswith(("HIRAGANA", "KATAKANA", "FULLWIDTH", "IDEOGRAPHIC")):
        points = 1.0
    elif name.startswith("HANGUL"):
        points = 0.98 if sign in COMMON_HANGUL else 0.4
    else:
        points = 1.0 if sign in COMMON_HAN or sign in COMMON_KANJI else 0.45
    return points - 1.2 * mixed
