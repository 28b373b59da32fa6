"""What stands where a student's code is to go."""


class NotWrittenYetError(Exception):
    """An exercise that is still blank; a check says so, and goes on.

    Example:
    >>> try:
    ...     raise NotWrittenYetError
    ... except NotWrittenYetError as error:
    ...     print(error)
    This exercise is not written yet: put your code in place of the `raise`.
    """

    def __str__(self) -> str:
        return (
            "This exercise is not written yet: put your code in place of the `raise`."
        )
