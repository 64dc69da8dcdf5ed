"""What an API server or the resource's rules refused -> the answer of the admin side. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from llm_operator.admin.errors import AdminError, Away, Conflict, Invalid, Missing
from llm_operator.ports import Gone, PortError, Refused, Said
from llm_operator.resource.model import Problem
from llm_operator.resource.parse import NotAResource, parse

#: Seconds after which to ask an API server again that is away.
AGAIN = 2.0

#: How the API server says that the admin itself lacks a right.
_LACKS = re.compile(r'User "[^"]*" cannot (\S+) resource "(\S+)"')
#: How it says that a body can't be an object of its schema: with 500, since it has no more to say.
_UNTYPED = re.compile(r"failed to create typed patch object \([^)]*\): (.*)", re.DOTALL)
#: What stands before the words of a rule, and is said by the field already.
_BEFORE = re.compile(r'^(?:Invalid value: (?:"(?:[^"\\]|\\.)*"|[^:]*)|Forbidden|Required value): ')
#: A cause that is no fault: that others were not looked for.
_NO_FIELD = "<nil>"


class Exists(Conflict):
    """There is one of that name."""

    def __init__(self, what: str) -> None:
        super().__init__(f"an LLMBackend {what} exists already; choose another name")


def invalid(problems: Iterable[Problem]) -> Invalid:
    """All that is wrong, as one sentence and one by one under `errors`."""
    told = list(problems)
    errors = [{"field": problem.path, "message": problem.message} for problem in told]
    return Invalid("; ".join(str(problem) for problem in told), more={"errors": errors})


def check(manifest: Mapping[str, Any]) -> None:
    """Ask the resource's rules, those too that an API server can't check.

    Raises:
        Invalid: with everything that is wrong.
    """
    try:
        problems = parse(manifest).problems
    except NotAResource as error:
        raise Invalid(str(error)) from None
    if problems:
        raise invalid(problems)


def refusal(error: PortError, *, what: str) -> AdminError:
    """What the failure of a write means to who asked for it.

    Args:
        what: the resource, as NAMESPACE/NAME.
    """
    said = error.said
    if said is None:
        return Away(f"the API server does not answer: {error}", retry_after=AGAIN)
    if isinstance(error, Gone):
        return _gone(said, what)
    if untyped := _UNTYPED.search(said.message):
        return Invalid(untyped[1].strip().removeprefix("."))
    if isinstance(error, Refused):
        return _refused(said, what)
    return Away(f"the API server can't take it now: {said.message}", retry_after=AGAIN)


def _gone(said: Said, what: str) -> AdminError:
    namespace, _, _ = what.partition("/")
    if said.kind == "namespaces":
        return Missing(f"there is no namespace {namespace}")
    if said.code == 403:
        return Missing(f"namespace {namespace} is being deleted")
    if said.kind == "" or said.reason != "NotFound":
        return Away(f"the API server does not know LLMBackends: {said.message}", retry_after=AGAIN)
    return Missing(f"{what} is gone")


def _refused(said: Said, what: str) -> AdminError:
    if said.code == 403 and (lacks := _LACKS.search(said.message)):
        namespace, _, _ = what.partition("/")
        return Away(
            f"the admin may not {lacks[1]} {lacks[2]} in namespace {namespace}: "
            "give its service account that right"
        )
    if said.code == 401:
        return Away(f"the API server does not know the admin: {said.message}", retry_after=AGAIN)
    problems = [
        Problem(path=path, message=_words(path, message))
        for _, path, message in said.causes
        if path != _NO_FIELD
    ]
    # NB: in the order of first mention; the API server says some things twice.
    unique = list(dict.fromkeys(problem for problem in problems if problem.path))
    return invalid(unique) if unique else Invalid(said.message)


def _words(path: str, message: str) -> str:
    return _BEFORE.sub("", message, count=1).removeprefix(f"{path} in body ")
