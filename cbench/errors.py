"""Every error that cbench raises on purpose. Catch `CbenchError` to catch them all.

The text of an error is one sentence that names what is wrong and, where there is a choice, what to do; the shell
prints it without a traceback and exits with status 1.
"""


class CbenchError(ValueError):
    """Base of all errors of this package."""


class BitstreamError(CbenchError):
    """Coded data is damaged, truncated, too long, or not ours."""


class WrongModelError(CbenchError):
    """A file was made with other weights, or with a codec that is not installed."""


class DecodeMismatchError(CbenchError):
    """The data is intact but decoded to something else than was encoded (other arithmetic than the encoder's)."""


class UnsupportedInputError(CbenchError):
    """An array or a file that a codec or reader does not take (channels, bit depth, dtype, file type)."""


class ConfigError(CbenchError):
    """A config file, an override, a run folder or an argument that cannot be used as given."""


class DataNotFoundError(CbenchError):
    """A data set, weights file or input that is not where it was looked for."""
