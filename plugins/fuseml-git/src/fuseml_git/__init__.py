"""The built-in codeset store: bare git repositories over smart HTTP."""
