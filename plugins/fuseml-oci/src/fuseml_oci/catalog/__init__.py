"""Catalogs: signed lists of packages that live in OCI registries. The form is in `docs/reference/catalog-format.md`."""
