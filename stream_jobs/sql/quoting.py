"""Names and texts as Flink SQL reads them."""


def identifier(name: str) -> str:
    """The name in backticks, whatever it holds: keywords, spaces, quotes, backticks."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """The text as a string literal."""
    return "'" + text.replace("'", "''") + "'"
