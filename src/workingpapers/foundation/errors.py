"""The exceptions that reach a user, each shown as one line and an exit code of its own."""


class UserFacingError(Exception):
    """An error whose message is a full answer to the user; the command line shows no traceback."""

    exit_code = 2


class InputError(UserFacingError, ValueError):
    """Bad input: the message names the file, field or argument and says what was expected."""


class MissingPackageError(UserFacingError, ImportError):
    """A package of an extra is not installed; the message is the command that brings it."""


class TaskError(UserFacingError):
    """A task of a parallel run failed, in the task's own words or because its worker died."""

    exit_code = 1


def missing_package(package: str, extra: str) -> MissingPackageError:
    """The error for `package` not being installed, naming the extra that brings it."""
    return MissingPackageError(
        f"{package} is not installed: pip install 'workingpapers[{extra}]' brings it"
    )
