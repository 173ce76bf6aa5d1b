"""The programs of the stack, one module each; what they have in common is in ``base``."""
