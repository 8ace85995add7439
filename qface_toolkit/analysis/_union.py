"""Numbers that are joined into sets: which channels of a network belong together."""


class Union:
    """Numbers from zero on, each at first in a set of its own; the least of a set is its head."""

    def __init__(self, count: int = 0) -> None:
        self.parents = list(range(count))

    def more(self, count: int) -> list[int]:
        """Return so many new numbers."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return list(range(start, start + count))

    def head(self, number: int) -> int:
        """Return the number that stands for a set."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        one, other = self.head(one), self.head(other)
        self.parents[max(one, other)] = min(one, other)

    def numbered(self, found: dict[str, list[int]]) -> tuple[dict[str, list[int]], int]:
        """Return the set of each number, counted from zero as they come, and how many sets there are."""
        heads = {name: [self.head(one) for one in numbers] for name, numbers in found.items()}
        places = {head: place for place, head in enumerate(dict.fromkeys(sum(heads.values(), [])))}
        return {name: [places[head] for head in those] for name, those in heads.items()}, len(places)
