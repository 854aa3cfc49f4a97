"""Letters that look like Latin ones, and signs that stand for letters.

A small part of what Unicode calls confusable (UTS 39): what people use to get a word past a list. The keys are lower case,
without marks, each beside the letter that it looks like in one case or the other.
"""

from typing import Final

_ALIKE: Final = (
    "аa вb сc еe һh іi јj кk ӏl мm нh оo рp ѕs тt уy хx ԁd ԛq ԝw ѵv яr",  # Cyrillic
    "αa βb εe ζz ηn ιi κk μm νv οo ρp τt υu χx ωw",  # Greek
    "օo սu հh ոn ցg",  # Armenian
    "łl øo đd ħh ıi ŧt ƙk ɑa ɡg ɩi ðd ƒf ɛe ʋv",  # Latin with strokes, and of phonetics
    "ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz",  # small capitals
)
LOOKALIKES: Final[dict[str, str]] = {pair[0]: pair[1:] for pairs in _ALIKE for pair in (*pairs.split(), "æae", "œoe")}
"""What each letter is folded to."""

_SIGNS: Final = "0o 1i li !i |i ¡i £i 2z 3e €e 4a @a 5s $s 6g 9g 7t 8b ×x"
SKELETON: Final[dict[int, str]] = {ord(pair[0]): pair[1] for pair in _SIGNS.split()}
"""What letters become where digits and signs may stand for letters; `i` and `l`, which are both written 1, become one."""
