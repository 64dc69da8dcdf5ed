"""Who may: a bearer token becomes a `Caller`, and a caller may or may not do a thing.

    cluster ─> reviews ─> API server    TokenReview and SubjectAccessReview, kept by `answers`
    file    ─> a token file             one token on one machine, which may do everything
       └────> guard ─> limit            wrong tokens: slowed, then refused for a while

`bearer`, `limit` and `reviews` decide on values. No token is logged or put in an error here, and of
a caller's nothing is kept but a keyed digest. Who can't be asked is `Away`, never `Unauthorized`: a
router drops what it gets a 401 for.
"""

from llm_operator.admin.access.cluster import ClusterGate
from llm_operator.admin.access.file import FileGate, TokenFileError, make_token_file

__all__ = ["ClusterGate", "FileGate", "TokenFileError", "make_token_file"]
