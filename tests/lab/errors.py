"""What the lab says when it cannot go on; the hint is the mend."""


class LabError(Exception):
    """Something about the lab itself, with a way to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CommandError(LabError):
    """A command in a machine ended with another exit code than 0, or not at all."""

    def __init__(self, message: str, *, code: int | None, output: str) -> None:
        super().__init__(f"{message}\n{output}".rstrip())
        self.code = code
        self.output = output


class ChannelError(LabError):
    """The machine's management channel gives no answer: it is off, frozen, or still booting."""
