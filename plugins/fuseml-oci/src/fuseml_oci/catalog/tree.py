"""The tree of packages: found by the hash of their name, so that a change of one package changes one path of nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from fuseml_oci.catalog.format import MAX_PACKAGES, Blob, Node, encode
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput

#: Packages that a node lists itself; with more it has children.
LEAF = 24
#: Digits of the hash that the tree may use; 16 of them tell 10^9 names apart.
MAX_DEPTH = 16
#: Returns a node by its blob, verified.
ReadNode = Callable[[Blob], Node]


def blob_of(data: bytes) -> Blob:
    """Name some bytes by what they contain."""
    return Blob(digest=digest_bytes(data), size=len(data))


def path_of(name: str) -> str:
    """The digits under which a package is found."""
    return hashlib.sha256(name.encode()).hexdigest()


def build_tree(packages: Mapping[str, Blob]) -> tuple[Blob, dict[str, bytes]]:
    """Make the tree of a set of packages; equal sets give equal trees.

    Args:
        packages: Name to document.

    Returns:
        The root node, and the bytes of all nodes by digest.
    """
    nodes: dict[str, bytes] = {}

    def make(entries: dict[str, Blob], depth: int) -> Blob:
        if len(entries) <= LEAF or depth == MAX_DEPTH:
            node = Node(packages=entries)
        else:
            parts: dict[str, dict[str, Blob]] = {}
            for name, blob in entries.items():
                parts.setdefault(path_of(name)[depth], {})[name] = blob
            node = Node(children={digit: make(part, depth + 1) for digit, part in parts.items()})
        data = encode(node)
        blob = blob_of(data)
        nodes[blob.digest] = data
        return blob

    return make(dict(packages), 0), nodes


def walk(root: Blob, read: ReadNode) -> Iterator[tuple[str, Blob]]:
    """All packages of a tree of unknown origin, in the order of their hashes.

    Args:
        root: The root node.
        read: Returns a node.

    Raises:
        InvalidInput: The tree is too deep or too large, or lists a package at a place where nobody would look for it.
    """
    count = 0
    pending = [(root, "")]
    while pending:
        blob, prefix = pending.pop()
        node = read(blob)
        check_place(node, prefix)
        count += len(node.packages) or 1
        if count > 2 * MAX_PACKAGES:
            raise InvalidInput(f"the catalog has more than {MAX_PACKAGES} packages")
        yield from sorted(node.packages.items(), key=lambda entry: path_of(entry[0]))
        pending += [(node.children[digit], prefix + digit) for digit in sorted(node.children, reverse=True)]


def find(root: Blob, name: str, read: ReadNode) -> Blob | None:
    """The document of one package, reading only the nodes on the way to it."""
    path, blob = path_of(name), root
    for depth in range(MAX_DEPTH + 1):
        node = read(blob)
        check_place(node, path[:depth])
        if not node.children:
            return node.packages.get(name)
        if path[depth] not in node.children:
            return None
        blob = node.children[path[depth]]
    raise InvalidInput("the tree of the catalog is too deep")


def check_place(node: Node, prefix: str) -> None:
    """Check that a node may stand where it stands, so that no package is shown in a list but not found by name.

    Raises:
        InvalidInput: It may not.
    """
    if len(prefix) > MAX_DEPTH:
        raise InvalidInput("the tree of the catalog is too deep")
    for name in node.packages:
        if not path_of(name).startswith(prefix):
            raise InvalidInput(f"the catalog lists the package {name} where it does not belong")
