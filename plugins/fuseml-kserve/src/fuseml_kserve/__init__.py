"""Serving for FuseML: an Open Inference server that needs nothing but the model's own environment.

Runs under Python 3.8 or later, from an installed package, a plain directory or a wheel file on the path.
"""
