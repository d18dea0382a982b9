"""How the command line reads values of the config's fields, by their type."""

from absl import flags
from ml_collections import config_flags


class _Parser(flags.ArgumentParser):
    """The parser of all fields of one type; its error says in words what they must be."""

    def __init__(self, parse, words):
        self._parse, self._words = parse, words

    def parse(self, argument):
        try:
            return self._parse(argument)
        except (TypeError, ValueError) as error:
            raise ValueError(f"must be {self._words}") from error


def _whole(argument):
    """Parse an int; 1e6 and 40.0 are allowed."""
    try:
        return flags.IntegerParser().parse(argument)
    except ValueError:
        if not float(argument).is_integer():
            raise
        return int(float(argument))


def register() -> None:
    """Make ml_collections read numbers and booleans by these parsers."""
    for kind, parse, words in (
        (int, _whole, "a whole number"),
        (float, flags.FloatParser().parse, "a number"),
        (bool, flags.BooleanParser().parse, "true or false"),
    ):
        config_flags.register_flag_parser_for_type(kind, _Parser(parse, words))
