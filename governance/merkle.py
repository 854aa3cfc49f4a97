"""The Merkle tree of RFC 6962 and RFC 9162, section 2.1: roots, inclusion and consistency proofs.

A tree is kept as the hashes of its complete subtrees. The node at ``(level, position)`` covers the entries
``[position << level, (position + 1) << level)``; level 0 holds the leaf hashes. Complete subtrees never change when the
tree grows, so the store is append-only, and any root or proof takes a logarithmic number of them.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from governance.errors import IntegrityError

Coordinate = tuple[int, int]
"""Level and position of a complete subtree."""

EMPTY_ROOT = hashlib.sha256(b"").digest()


class NodeReader(Protocol):
    """Where the hashes of complete subtrees are kept."""

    def read(self, coordinates: Collection[Coordinate], /) -> Mapping[Coordinate, bytes]:
        """Returns the hashes at these coordinates; those that are not stored are left out."""


class MemoryNodes(dict[Coordinate, bytes]):
    """Complete subtrees in memory."""

    def read(self, coordinates: Collection[Coordinate], /) -> Mapping[Coordinate, bytes]:
        """Returns the hashes at these coordinates; those that are not there are left out."""
        return {coordinate: self[coordinate] for coordinate in coordinates if coordinate in self}


def leaf_hash(entry: bytes) -> bytes:
    """Returns ``SHA256(0x00 || entry)``."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns ``SHA256(0x01 || left || right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def complete_subtrees(start: int, end: int) -> list[Coordinate]:
    """Returns the complete subtrees that cover the entries ``[start, end)``, left to right, each as large as can be."""
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def num_nodes(size: int) -> int:
    """Returns how many complete subtrees a tree of this many entries has."""
    return sum(size >> level for level in range(size.bit_length()))


class GrowingTree:
    """A tree that leaves are added to, many at a time; it keeps no more than the peaks: the complete subtrees that cover it.

    Args:
        size: Number of leaves that it begins with.
        peaks: The hashes of `complete_subtrees` of these, left to right.

    Attributes:
        size: Number of leaves.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        covers = complete_subtrees(0, size)
        self._peaks = {level: value for (level, _), value in zip(covers, peaks, strict=True)}

    def append(self, leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
        """Adds leaves, and returns the complete subtrees that come into being with them.

        Args:
            leaf_hashes: The leaves, in order.

        Returns:
            Their hashes by level, from 0. Those of a level stand in a row, of which the first is at position
            ``size >> level``, where ``size`` is that of the tree before.
        """
        levels = []
        row = list(leaf_hashes)
        self.size += len(row)
        while row:
            levels.append(row)
            level = len(levels) - 1
            left = self._peaks.pop(level, None)
            pairs = row if left is None else [left, *row]
            if len(pairs) & 1:
                self._peaks[level] = pairs[-1]
            row = [node_hash(*pair) for pair in zip(pairs[::2], pairs[1::2], strict=False)]
        return levels

    def root(self) -> bytes:
        """Returns the root over all leaves."""
        return fold([self._peaks[level] for level in sorted(self._peaks, reverse=True)])


def extend(size: int, leaf_hashes: Sequence[bytes], nodes: NodeReader) -> dict[Coordinate, bytes]:
    """Returns the complete subtrees that come into being when leaves are added.

    Args:
        size: Number of leaves before.
        leaf_hashes: The new leaves, in order.
        nodes: The subtrees stored before.

    Raises:
        IntegrityError: A subtree of the tree before is not stored.
    """
    peaks = complete_subtrees(0, size)
    stored = _read(nodes, peaks)
    levels = GrowingTree(size, [stored[peak] for peak in peaks]).append(leaf_hashes)
    return {(level, (size >> level) + i): value for level, row in enumerate(levels) for i, value in enumerate(row)}


def fold(peaks: Sequence[bytes]) -> bytes:
    """Returns the root over complete subtrees that stand left to right; of none, the root of the empty tree."""
    if not peaks:
        return EMPTY_ROOT
    current = peaks[-1]
    for peak in reversed(peaks[:-1]):
        current = node_hash(peak, current)
    return current


def root_hash(size: int, nodes: NodeReader) -> bytes:
    """Returns the root of the first ``size`` entries.

    Raises:
        IntegrityError: A subtree is not stored.
    """
    return _range_hashes([(0, size)], nodes)[0]


def inclusion_proof(index: int, size: int, nodes: NodeReader) -> list[bytes]:
    """Returns PATH(index, D[size]) of RFC 9162, section 2.1.3.1: the hashes beside the way from the leaf to the root.

    Raises:
        ValueError: There is no such entry in a tree of that size.
        IntegrityError: A subtree is not stored.
    """
    if not 0 <= index < size:
        raise ValueError(f"no entry {index} in a tree of {size}")
    siblings = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            siblings.append((middle, high))
            high = middle
        else:
            siblings.append((low, middle))
            low = middle
    return _range_hashes(siblings[::-1], nodes)


def consistency_proof(first: int, second: int, nodes: NodeReader) -> list[bytes]:
    """Returns PROOF(first, D[second]) of RFC 9162, section 2.1.4.1: that the larger tree begins with the smaller.

    Raises:
        ValueError: Not ``0 < first <= second``.
        IntegrityError: A subtree is not stored.
    """
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof from {first} to {second}")
    siblings = []
    low, high = 0, second
    whole = True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            siblings.append((middle, high))
            high = middle
        else:
            siblings.append((low, middle))
            low = middle
            whole = False
    if not whole:
        siblings.append((low, high))
    return _range_hashes(siblings[::-1], nodes)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Says whether an inclusion proof holds (RFC 9162, section 2.1.3.2).

    Args:
        leaf: The entry's leaf hash.
        index: The entry's index.
        size: Number of entries in the tree.
        proof: Hashes from the leaf to the root.
        root: The tree's root.
    """
    if not 0 <= index < size:
        return False
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and current == root


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Says whether a consistency proof holds (RFC 9162, section 2.1.4.2); the empty tree is a prefix of every tree."""
    if first == 0:
        return not proof and first_root == EMPTY_ROOT and (second > 0 or second_root == EMPTY_ROOT)
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second or not proof:
        return False
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    node, last = first - 1, second - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root


def _split(size: int) -> int:
    """Returns the largest power of two smaller than a size of two or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hashes(ranges: Sequence[tuple[int, int]], nodes: NodeReader) -> list[bytes]:
    covers = [complete_subtrees(start, end) for start, end in ranges]
    stored = _read(nodes, [coordinate for cover in covers for coordinate in cover])
    return [fold([stored[coordinate] for coordinate in cover]) for cover in covers]


def _read(nodes: NodeReader, coordinates: Sequence[Coordinate]) -> Mapping[Coordinate, bytes]:
    stored = nodes.read(coordinates)
    for level, position in coordinates:
        if (level, position) not in stored:
            raise IntegrityError(f"the ledger's tree lacks node {position} of level {level}")
    return stored
