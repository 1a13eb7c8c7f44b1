"""The domain: what FuseML is about, in plain Python. Imports the standard library only."""
