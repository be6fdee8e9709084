"""Turkish text -> sentences, by a handful of rules.

    >>> split_sentences("Prof. Dr. Ak 19. yüzyılı anlattı. Salon doluydu!")
    ['Prof. Dr. Ak 19. yüzyılı anlattı.', 'Salon doluydu!']

A sentence ends after `. ! ? …` and the closing quotes and brackets on them, where white space follows and then a
bullet, or (after a dash, an opening quote or bracket, a per cent sign) an upper-case letter or a digit. A line break
always ends one. A single full stop does not where the token before it asks for more: an abbreviation, an initial
(`M. Kemal`, `T.C.`), a Roman numeral (`II. Mahmut`) or an ordinal: a number of one or two digits (`19. Yüzyıl`), but
not after `yüzde` (per cent), nor before a plain number (`18. 70 yaşında`) unless it numbers the sentence itself.
"""

import re

# Abbreviations that lead to the word after them. Those that often close a sentence (vb. vs. vd. km.) are left out, and
# so are those that are words of their own (kim, kur, bul, is); where only the lower-case form is a word, the capital
# form is listed and nothing else matches it. The rest match in any case.
_ABBREVIATIONS = frozenset(
    "Alb Ar Arş As Av Bl Bn Böl Cad Gen Gn Kur Kor Mah Ord Org Ort Öğr Sok Tel Uzm Üni Zf İng İnş "
    "apt asb atğm bçvş bkz bknz bşk bulv çvş doç dr ecz fak hst hz kd koord krş küt ltd "
    "mr mrs müd müh no okt op opr örn prof sn st şb şti tğm tls tuğa tuğg tüma tümg üçvş ütğm vet "
    "yard yb yrd yy yzb".split()
)
_UPPER = "A-ZÀ-ÖØ-ÞĞİŞ"
_INITIAL_OR_ROMAN = re.compile(rf"(?:.*\.)?(?:[{_UPPER}]|[IVXLC]+)")
_ORDINAL = re.compile(r"[0-9]{1,2}")
_PLAIN_NUMBER = re.compile(r"\s++[0-9]++(?!\.\s)")

# Linear in the text whatever it holds: possessive quantifiers never give back, and the look-behind lets a match start
# at the first mark of a run only (it comes after the class, so that the scan for a mark stays the fast one).
_BOUNDARY = re.compile(
    r"[.!?…](?<![.!?…]{2})[.!?…]*+"
    r"[\"'”’»)\]]*+"  # closing marks
    r"(?P<apart>\s++(?:\"|''|”)(?=\s))?+"  # a quote with white space on both sides, as tokenized text has it
    rf"(?=\s++(?:[•*]|[-–—]{{0,2}}+\s*+[\"'“‘«(\[`%]*+\s*+[{_UPPER}0-9]))"
)
_LINE = re.compile(r"[^\r\n]+")


def sentence_ends(text: str) -> list[int]:
    """Character offsets at which the sentences of `text` end, ascending: each right after a sentence's last character.

    White space between two sentences belongs to neither; a text of nothing else has no sentence.
    """
    ends = []
    for line in _LINE.finditer(text):
        start = line.start()
        for match in _BOUNDARY.finditer(text, *line.span()):
            mark, end = match.start(), match.end()
            if end == mark + 1 and text[mark] == "." and _asks_for_more(text, start, mark):
                continue
            # A quote apart closes only what this sentence opened; else it opens the next one.
            if match["apart"] and match["apart"][-1] == '"' and text.count('"', start, mark) % 2 == 0:
                end = match.start("apart")
            ends.append(end)
            start = end
        end = start + len(text[start : line.end()].rstrip())
        if end > start:
            ends.append(end)
    return ends


def split_sentences(text: str) -> list[str]:
    """Sentences of `text` in order, trimmed; every character but the white space between them is kept."""
    sentences, start = [], 0
    for end in sentence_ends(text):
        sentences.append(text[start:end].strip())
        start = end
    return sentences


def _asks_for_more(text: str, start: int, stop: int) -> bool:
    """True if the full stop at `stop`, in a sentence that begins at `start`, does not end it."""
    before = text[max(start, stop - 12) : stop]
    if not before or before[-1].isspace():
        return False
    *_, previous, token = ["", *before.split()]
    token = token.lstrip("\"'“‘«([")
    if _ORDINAL.fullmatch(token):
        return not previous or (not previous.lower().endswith("yüzde") and not _PLAIN_NUMBER.match(text, stop + 1))
    word = token.rpartition(".")[2]  # the last part of Yrd.Doç.Dr.
    return word in _ABBREVIATIONS or word.lower() in _ABBREVIATIONS or _INITIAL_OR_ROMAN.fullmatch(token) is not None
