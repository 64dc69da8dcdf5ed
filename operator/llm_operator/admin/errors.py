"""What the admin side answers instead of what was asked for.

    AdminError
    ├── Invalid        400  the request can't be what was meant; the detail names field and reason
    ├── Unauthorized   401  no token, or one that nobody knows
    ├── Forbidden      403  the token is good and may not do this
    ├── Missing        404  there is no such thing
    ├── Conflict       409  it is there already, or belongs to a GitOps pipeline
    ├── Changed        412  somebody changed it in the meantime
    ├── TooLarge       413  more than is taken at once
    ├── TooMany        429  come again after `retry_after` seconds
    └── Away           503  what is needed does not answer now; come again

The detail is for people, as one sentence, and never holds a token or a value of a Secret.
"""

from collections.abc import Mapping


class AdminError(Exception):
    """Any answer that is no success.

    Attributes:
        status: of HTTP.
        detail: the sentence.
        retry_after: seconds after which the same may pass; None where waiting helps nothing.
        more: further fields of the answer, such as the YAML to commit.
    """

    status = 500

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.more = more or {}


class Invalid(AdminError):
    """The request can't be what was meant."""

    status = 400


class Unauthorized(AdminError):
    """There is no token, or one that nobody knows."""

    status = 401


class Forbidden(AdminError):
    """The token is good and may not do this."""

    status = 403


class Missing(AdminError):
    """There is no such thing."""

    status = 404


class Conflict(AdminError):
    """It is there already, or belongs to a GitOps pipeline."""

    status = 409


class Changed(AdminError):
    """Somebody changed it in the meantime."""

    status = 412


class TooLarge(AdminError):
    """More than is taken at once."""

    status = 413


class TooMany(AdminError):
    """Too many requests, or too many wrong tokens."""

    status = 429


class Away(AdminError):
    """What is needed does not answer now."""

    status = 503
