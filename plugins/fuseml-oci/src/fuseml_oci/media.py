"""Media types, artifact types and annotation keys: the OCI ones and FuseML's own."""

from __future__ import annotations

# OCI image-spec 1.1: media-types.md, manifest.md
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_BYTES = b"{}"
EMPTY_DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
# Docker's predecessors of the same documents; read, never written.
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({INDEX, DOCKER_INDEX})

#: Layers that registries need not hold (image-spec, layer.md, non-distributable layers).
NON_DISTRIBUTABLE = frozenset({
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
})

# Bundles of extensions
EXTENSION = "application/vnd.fuseml.extension.v1+json"
EXTENSION_CONFIG = "application/vnd.fuseml.extension.config.v1+json"
EXTENSION_RUNNABLES = "application/vnd.fuseml.extension.runnables.v1.tar"
EXTENSION_TEMPLATES = "application/vnd.fuseml.extension.templates.v1.tar"
EXTENSION_AGENTS = "application/vnd.fuseml.extension.agents.v1.tar"
EXTENSION_FILES = "application/vnd.fuseml.extension.files.v1.tar"
EXTENSION_WHEEL = "application/vnd.fuseml.extension.wheel.v1"
EXTENSION_VENDORED = "application/vnd.fuseml.extension.vendored-wheel.v1"

# What refers to a bundle, beside signatures
WHEELS = "application/vnd.fuseml.wheels.v1+json"
SBOM = "application/vnd.cyclonedx+json"
STATEMENT = "application/vnd.in-toto+json"

# Runnables
RUNNABLE = "application/vnd.fuseml.runnable.v1+json"
RUNNABLE_CONFIG = "application/vnd.fuseml.runnable.config.v1+json"
RUNNABLE_FILES = "application/vnd.fuseml.runnable.files.v1.tar"

# Annotations (image-spec, annotations.md; own keys under our own domain)
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
DESCRIPTION = "org.opencontainers.image.description"
LICENSES = "org.opencontainers.image.licenses"
SOURCE = "org.opencontainers.image.source"
REF_NAME = "org.opencontainers.image.ref.name"
EXTENSION_NAME = "io.fuseml.extension.name"
EXTENSION_REQUIRES = "io.fuseml.extension.requires"
RUNNABLE_NAME = "io.fuseml.runnable.name"
RUNNABLE_KIND = "io.fuseml.runnable.kind"

# Catalogs: an index that holds the catalog's own manifest and those that list all its blobs
CATALOG = "application/vnd.fuseml.catalog.v1+json"
CATALOG_ROOT = "application/vnd.fuseml.catalog.root.v1+json"
CATALOG_CONTENTS = "application/vnd.fuseml.catalog.contents.v1+json"
CATALOG_DOCUMENT = "application/vnd.fuseml.catalog.document.v1+json"
CATALOG_RELOCATION = "application/vnd.fuseml.catalog.relocation.v1+json"
CATALOG_SUBMISSION = "application/vnd.fuseml.catalog.submission.v1+json"
CATALOG_VERSION = "io.fuseml.catalog.version"
