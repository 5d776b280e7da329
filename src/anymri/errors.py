"""Every error that a user can cause, as one tree.

    AnymriError
    ├── UsageError            options that contradict each other, unknown names
    ├── InputFileError        a file is missing, unreadable, truncated or of the wrong type
    │   ├── ImageContentError NaN or constant voxels, a wrong number of dimensions, a skull
    │   └── GridMismatchError shapes, affines or spacings that do not agree
    ├── LabelSchemeError      label values that the declared scheme does not know
    ├── CaseError             a prepared case or cohort that is damaged or does not fit
    ├── WeightsError          weights that cannot be trusted or do not fit the task
    ├── OutputError           a place that cannot be written
    └── TrainingError         a run that diverged or cannot be resumed

    InterruptedWork           a signal to stop, obeyed; no error, so nothing that handles errors may swallow it

A message is one line: which file, what was found, what was expected, what to do. The command line prints it and exits with 2.
"""

_LONGEST = 1000  # Characters of a message: room for three long paths and what is said about them.


def one_line(text: object) -> str:
    r"""Return a text as one printable line, whatever a file's name or content has put into it.

    Characters that no terminal shows are escaped: a line break becomes ``\n``, a byte that is no UTF-8 ``\udcff``. What is
    too long is cut in its middle.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    half = _LONGEST // 2 - 1
    return shown if len(shown) <= _LONGEST else f"{shown[:half]} … {shown[-half:]}"


class AnymriError(Exception):
    """Base of all errors that a user can cause and mend; as text it is one printable line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(AnymriError):
    """Options that contradict each other, or a name that does not exist."""


class InputFileError(AnymriError):
    """A file that is missing, unreadable, truncated or of the wrong type."""


class ImageContentError(InputFileError):
    """An image whose voxels cannot be used: NaN, constant, not three-dimensional, not skull-stripped."""


class GridMismatchError(InputFileError):
    """Arrays or images that should share one grid and do not."""


class LabelSchemeError(AnymriError):
    """Label values outside the declared scheme."""


class CaseError(AnymriError):
    """A prepared case or cohort that is damaged, incomplete or made for something else."""


class WeightsError(AnymriError):
    """Weights that cannot be trusted, or that do not fit what they are asked to do."""


class OutputError(AnymriError):
    """A file or folder that cannot be written."""


class TrainingError(AnymriError):
    """A training that diverged, or that cannot go on from what is on disk."""


class InterruptedWork(BaseException):
    """Work that stopped because a signal asked for it; the message says what is kept and how to go on.

    Attributes:
        signal: The number of the signal.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
