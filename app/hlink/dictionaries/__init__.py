"""Dictionaries (wire: 字典, ``/dict``): the codes of the API with their labels, for forms and for display."""

from app.hlink.dictionaries.catalogue import Choice, Dictionary, dictionaries, dictionary

__all__ = ["Choice", "Dictionary", "dictionaries", "dictionary"]
