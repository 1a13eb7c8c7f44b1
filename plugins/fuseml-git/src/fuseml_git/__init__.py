"""The built-in codeset store: bare git repositories, served over smart HTTP, with a journal of pushes."""
