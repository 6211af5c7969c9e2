"""What a command tells whoever called it."""


class Failure(Exception):
    """Something that the user has to mend; the message says what."""
