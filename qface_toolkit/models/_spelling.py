"""Say in a few words how the keys of a state dict are spelt otherwise than those of a network."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

_LONGEST = 3000
"""Of lists of keys that are laid side by side; the time grows with the square."""
_SHOWN = 6
_SYSTEMATIC = 3
"""Keys in which a word differs before it is said in place of them."""


@dataclass(frozen=True)
class Spelling:
    """Which keys are spelt otherwise, and how often each word of theirs stands where the network has another."""

    renamed: Mapping[str, str]
    words: tuple[tuple[str, str, int], ...]

    @classmethod
    def between(cls, shapes: Shapes, needed: Shapes) -> "Spelling":
        """Lay the keys that only one side has beside those of the other, in their order, where the shapes agree."""
        theirs = [key for key in shapes if key not in needed][:_LONGEST]
        ours = [key for key in needed if key not in shapes][:_LONGEST]
        matcher = difflib.SequenceMatcher(None, _shown(theirs, shapes), _shown(ours, needed), autojunk=False)
        blocks = matcher.get_matching_blocks()
        pairs = [(theirs[a + n], ours[b + n]) for a, b, size in blocks for n in range(size)]
        counts = Counter(_differing(*pair) for pair in pairs)
        words = [words for words, count in counts.most_common(_SHOWN) if count >= _SYSTEMATIC]
        free = {key: needed[key] for key in ours}
        renamed = {key: new for key in theirs if (new := _respelt(key, words, free, shapes[key])) is not None}
        said = Counter(_differing(*pair) for pair in renamed.items())
        return cls(renamed, tuple((*words, count) for words, count in said.most_common()))

    def apply(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """Return the shapes under the keys that the network has for them."""
        return {self.renamed.get(key, key): shape for key, shape in shapes.items()}

    def __str__(self) -> str:
        """Return one line for each word, the most frequent first."""
        return "\n".join(_said(their, our, count) for their, our, count in self.words)

    def command(self, shapes: Shapes) -> str | None:
        """Return the Python that renames the keys, or None if exchanging the words everywhere does not do it."""
        changes = [(_edge(their), _edge(our)) for their, our, _ in self.words]
        if all(_replaced(key, changes) == self.renamed.get(key, key) for key in shapes):
            code = "".join(f".replace({their!r}, {our!r})" for their, our in changes)
            return f"{{key{code}: value for key, value in state.items()}}"
        return None


def _shown(keys: Sequence[str], shapes: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    return [(key.rpartition(".")[2], shapes[key]) for key in keys]


def _differing(their: str, our: str) -> tuple[str, str]:
    """Return the words that differ, without those before and after that both keys share."""
    one, other = their.split("."), our.split(".")
    while one and other and one[0] == other[0]:
        del one[0], other[0]
    while one and other and one[-1] == other[-1]:
        del one[-1], other[-1]
    return ".".join(one), ".".join(other)


def _respelt(key: str, words: Sequence[tuple[str, str]], free: Shapes, shape: tuple[int, ...]) -> str | None:
    """Return the key as the network spells it with one of the words exchanged, if it has a place of that shape."""
    for their, our in words:
        new = f".{key}.".replace(f".{their}.", f".{our}." if our else ".").strip(".") if their else f"{our}.{key}"
        if free.get(new) == shape:
            return new
    return None


def _said(their: str, our: str, count: int) -> str:
    if not their:
        return f"{count} keys lack {our!r}"
    return f"{count} keys have {their!r} where {our!r} is expected" if our else f"{count} keys have {their!r} too much"


def _edge(words: str) -> str:
    return f"{words}." if words else ""


def _replaced(key: str, changes: Sequence[tuple[str, str]]) -> str:
    for their, our in changes:
        key = key.replace(their, our) if their else key
    return key
