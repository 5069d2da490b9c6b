"""What can stop the machine, each said in one sentence a person can act on."""


class MachineError(Exception):
    """Something the person at the keyboard has to know or do; the message says what. Exit code 4."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class UsageError(MachineError):
    """What was asked for contradicts itself or what is already there. Exit code 2."""
