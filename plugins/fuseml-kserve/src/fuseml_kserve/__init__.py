"""Serving for FuseML: an Open Inference server without dependencies."""
