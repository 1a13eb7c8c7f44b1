"""Marketplace pages: what the registry holds, for people (HTML) and for programs (JSON).

Everything shown was written by strangers. Text is escaped by the templates and stripped of characters that hide or
reorder other text; Markdown is rendered without HTML; nothing is loaded from another place.
"""
