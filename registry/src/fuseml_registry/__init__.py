"""OCI distribution server, catalog and curation for FuseML bundles."""
