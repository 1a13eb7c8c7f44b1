"""OCI client, bundle format and the built-in runnable store."""
