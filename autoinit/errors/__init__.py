"""What can go wrong, as types. Each message says what, where, value and expected, and the next step.

`arguments` refuses the arguments of public functions with the first of them, `calling` calls functions among them.
"""

from __future__ import annotations


def words_of(error: BaseException) -> str:
    """What an exception says; nothing where its own class fails to say it."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - of a class that anybody wrote
        return ""


class AutoinitError(Exception):
    """Base of every error that autoinit raises on purpose."""


class ArgumentError(AutoinitError, ValueError):
    """An argument has a value that no call could use. Raised before anything is read or written."""


class RegistrationError(AutoinitError, ValueError):
    """An operation is registered twice, or in a form that the table cannot hold."""


class TraceError(AutoinitError):
    """No tier could trace the model. Names, for each tier, the module and the source line that stopped it."""


class PlanError(AutoinitError):
    """A plan cannot be made from, or does not fit, the model it is given."""


class LazyModuleError(PlanError):
    """The model has lazy parameters: they have no shape until a first forward has run."""


class TrainedModelError(AutoinitError):
    """The model looks trained, so that writing its weights would destroy work. Names the evidence."""


class ApplyError(AutoinitError):
    """Writing failed. Says which weights were written and which were restored."""


class LoadError(AutoinitError):
    """A model spec or a file could not be loaded."""


class MemoryLimitError(LoadError, RuntimeError):
    """A model from a file would take more memory than it may. Raised before the memory is taken."""


class ConfigurationError(AutoinitError, ValueError):
    """A configuration or baseline file cannot be used. Names the file, the key, its value and what was expected."""


class CallbackError(AutoinitError):
    """A function that was given as an argument failed. Names it, its arguments and its error, which is the cause."""


class InitializationError(AutoinitError):
    """A model that is about to be trained does not start well. Names what was found."""
