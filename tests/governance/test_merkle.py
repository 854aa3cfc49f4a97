"""The tree, against RFC 6962's published vectors and a reference that follows the RFC's definitions word by word."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance import merkle
from governance.errors import IntegrityError
from governance.merkle import MemoryNodes

# The leaves and roots of certificate-transparency's own test of RFC 6962.
CT_LEAVES = [
    bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Its proofs: leaf index (from 0) and size, or both sizes, and the path.
CT_PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): CT_PATHS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
LEAVES = [b"entry %d" % i for i in range(600)]


def reference_split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def reference_root(entries):
    """MTH of RFC 6962, section 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = reference_split(len(entries))
    return hashlib.sha256(b"\x01" + reference_root(entries[:k]) + reference_root(entries[k:])).digest()


def reference_path(m, entries):
    """PATH of RFC 6962, section 2.1.1."""
    if len(entries) == 1:
        return []
    k = reference_split(len(entries))
    if m < k:
        return [*reference_path(m, entries[:k]), reference_root(entries[k:])]
    return [*reference_path(m - k, entries[k:]), reference_root(entries[:k])]


def reference_subproof(m, entries, whole):
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == len(entries):
        return [] if whole else [reference_root(entries)]
    k = reference_split(len(entries))
    if m <= k:
        return [*reference_subproof(m, entries[:k], whole), reference_root(entries[k:])]
    return [*reference_subproof(m - k, entries[k:], False), reference_root(entries[:k])]


def tree(size):
    nodes = MemoryNodes()
    nodes.update(merkle.extend(0, [merkle.leaf_hash(e) for e in LEAVES[:size]], nodes))
    return nodes


NODES = tree(len(LEAVES))


def test_roots_are_those_published_for_rfc_6962():
    nodes = MemoryNodes()
    assert merkle.root_hash(0, nodes).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size, (leaf, root) in enumerate(zip(CT_LEAVES, CT_ROOTS, strict=True)):
        nodes.update(merkle.extend(size, [merkle.leaf_hash(leaf)], nodes))
        assert merkle.root_hash(size + 1, nodes).hex() == root


def test_proofs_are_those_published_for_rfc_6962():
    nodes = MemoryNodes()
    nodes.update(merkle.extend(0, [merkle.leaf_hash(leaf) for leaf in CT_LEAVES], nodes))
    for (index, size), path in CT_PATHS.items():
        assert [step.hex() for step in merkle.inclusion_proof(index, size, nodes)] == path
    for (first, second), path in CT_CONSISTENCY.items():
        assert [step.hex() for step in merkle.consistency_proof(first, second, nodes)] == path


def test_roots_equal_the_reference_for_sizes_0_to_130():
    for size in range(131):
        assert merkle.root_hash(size, NODES) == reference_root(LEAVES[:size])


def test_inclusion_proofs_equal_the_reference_and_hold_for_sizes_1_to_130():
    for size in [*range(1, 34), 63, 64, 65, 127, 128, 129, 130]:
        root = merkle.root_hash(size, NODES)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, NODES)
            if size < 34 or index % 17 == 0:
                assert proof == reference_path(index, LEAVES[:size])
            assert merkle.verify_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, proof, root)


def test_consistency_proofs_equal_the_reference_and_hold_for_sizes_1_to_130():
    for second in [*range(1, 34), 64, 65, 127, 128, 130]:
        for first in range(1, second + 1):
            proof = merkle.consistency_proof(first, second, NODES)
            if second < 34 or first % 17 == 0:
                assert proof == reference_subproof(first, LEAVES[:second], True)
            roots = merkle.root_hash(first, NODES), merkle.root_hash(second, NODES)
            assert merkle.verify_consistency(first, second, proof, *roots)


def test_batches_and_single_appends_give_the_same_nodes():
    one_by_one = MemoryNodes()
    for size in range(130):
        one_by_one.update(merkle.extend(size, [merkle.leaf_hash(LEAVES[size])], one_by_one))
        assert len(one_by_one) == merkle.num_nodes(size + 1)
    assert one_by_one == tree(130)


@given(st.lists(st.integers(0, 40), max_size=6))
def test_a_growing_tree_has_the_roots_and_nodes_of_the_reference(steps):
    growing, nodes = merkle.GrowingTree(), MemoryNodes()
    for step in steps:
        before, added = growing.size, LEAVES[growing.size : growing.size + step]
        for level, row in enumerate(growing.append([merkle.leaf_hash(entry) for entry in added])):
            nodes.update({(level, (before >> level) + i): value for i, value in enumerate(row)})
        assert growing.size == before + len(added)
        assert growing.root() == reference_root(LEAVES[: growing.size])
        assert nodes == tree(growing.size)


def test_a_growing_tree_goes_on_from_peaks_and_from_no_others():
    peaks = [NODES[coordinate] for coordinate in merkle.complete_subtrees(0, 75)]
    growing = merkle.GrowingTree(75, peaks)
    assert growing.root() == reference_root(LEAVES[:75])
    growing.append([merkle.leaf_hash(entry) for entry in LEAVES[75:130]])
    assert growing.root() == reference_root(LEAVES[:130])
    with pytest.raises(ValueError, match="zip"):
        merkle.GrowingTree(75, peaks[1:])


@given(st.data())
def test_inclusion_proofs_hold_and_no_other_claim_does(data):
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(index, size, NODES), merkle.root_hash(size, NODES)
    leaf = merkle.leaf_hash(LEAVES[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    other = data.draw(st.integers(-1, size).filter(lambda i: i != index))
    assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, leaf], root)
    if proof:
        assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)
        place = data.draw(st.integers(0, len(proof) - 1))
        broken = [*proof[:place], bytes(32), *proof[place + 1 :]]
        assert not merkle.verify_inclusion(leaf, index, size, broken, root)


@given(st.data())
def test_consistency_proofs_hold_and_no_other_claim_does(data):
    second = data.draw(st.integers(1, len(LEAVES)))
    first = data.draw(st.integers(1, second))
    old, new = merkle.root_hash(first, NODES), merkle.root_hash(second, NODES)
    proof = merkle.consistency_proof(first, second, NODES)
    assert merkle.verify_consistency(first, second, proof, old, new)
    assert not merkle.verify_consistency(first, second, proof, bytes(32), new)
    assert not merkle.verify_consistency(first, second, proof, old, bytes(32))
    assert not merkle.verify_consistency(first, second, [*proof, old], old, new)
    if proof:
        assert not merkle.verify_consistency(first, second, proof[:-1], old, new)
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.verify_consistency(first, second, [*proof[:place], bytes(32), *proof[place + 1 :]], old, new)


def test_the_empty_tree_is_a_prefix_of_every_tree():
    assert merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)
    assert merkle.verify_consistency(0, 7, [], merkle.EMPTY_ROOT, merkle.root_hash(7, NODES))
    assert not merkle.verify_consistency(0, 7, [], bytes(32), merkle.root_hash(7, NODES))
    assert not merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.root_hash(7, NODES))
    assert not merkle.verify_consistency(7, 5, [], merkle.root_hash(7, NODES), merkle.root_hash(5, NODES))


def test_claims_about_no_tree_are_a_callers_bug():
    for index, size in ((0, 0), (-1, 3), (3, 3)):
        with pytest.raises(ValueError, match="no entry"):
            merkle.inclusion_proof(index, size, NODES)
    for first, second in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="no consistency proof"):
            merkle.consistency_proof(first, second, NODES)


def test_a_missing_node_is_named():
    nodes = tree(8)
    del nodes[1, 1]
    with pytest.raises(IntegrityError, match="node 1 of level 1"):
        merkle.inclusion_proof(0, 7, nodes)
    with pytest.raises(IntegrityError, match="lacks node"):
        merkle.extend(6, [bytes(32)], MemoryNodes())
