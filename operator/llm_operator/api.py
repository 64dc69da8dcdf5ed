"""Requests to the Kubernetes API, and the only place where its client is used.

A path in, JSON or one of the `ports` errors out, within a timeout. It knows no resource and decides
nothing; what is asked for stands in `cluster`.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from kubernetes.aio import client, config

from llm_operator.ports import Gone, PortError, Refused, Said, Unavailable

#: Who the API server says is asking.
AGENT = "llm-backend-operator"

#: Seconds for a request, and for its connection to stand.
TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
#: Names and labels without the objects; in a list, and one by one in a watch.
METADATA = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_EACH = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
#: What kubectl prints; with includeObject=None it holds nothing of the objects but that.
TABLE = f"{JSON};as=Table;g=meta.k8s.io;v=v1"

#: Reason of a refusal by a namespace that is being deleted.
TERMINATING = "NamespaceTerminating"

#: Seconds that the API server keeps a watch open; whole ones only.
WATCH_SECONDS = 300
#: For its connection to stand, and without a word on it. NB: the API server sends a bookmark about
#: every minute, so that silence for longer is a connection that died.
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=90)


class NotConfigured(Exception):
    """Nothing says where the API server is. The message says what to set."""


class API:
    """One API server. An async context manager, made by `connect`."""

    def __init__(self, asking: client.ApiClient) -> None:
        self._client = asking
        self._renewing = asyncio.Lock()
        #: The API server's address and the session of all watches, made by the first.
        self._watching: tuple[str, aiohttp.ClientSession] | None = None

    @classmethod
    async def connect(cls) -> Self:
        """Read where it is: KUBECONFIG, else the pod's service account, else ~/.kube/config.

        Raises:
            NotConfigured: none of the three is there, or it can't be read.
        """
        return cls(_client(await _configuration()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close_watching()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def session(self, *, connections: int) -> tuple[str, aiohttp.ClientSession]:
        """Its address, and a new session with the credentials as they are on disk now.

        Raises:
            NotConfigured: they are not there any more.
        """
        asking = _client(await _configuration())
        settings = asking.configuration
        headers = {"User-Agent": asking.user_agent}
        if token := await settings.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        connector = aiohttp.TCPConnector(limit=connections, ssl=asking.rest_client.ssl_context)
        session = aiohttp.ClientSession(connector=connector, headers=headers, proxy=settings.proxy)
        return settings.host, session

    async def get(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> dict[str, Any]:
        """An object or a list. Raises as `request` does."""
        return await self.request("GET", path, query=query, accept=accept)

    async def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool = True,
        confidential: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply: the object as it is now.

        Raises as `request` does.

        Args:
            force: take the fields in the body from whoever owns them, where they differ.
            confidential: no error repeats the body; an answer may quote it.
        """
        query = {"fieldManager": manager, "force": str(force).lower()}
        return await self.request(
            "PATCH", path, query=query, body=body, content=APPLY, confidential=confidential
        )

    async def watch(
        self,
        path: str,
        *,
        query: Mapping[str, str],
        accept: str = METADATA_EACH,
        begun: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a watch, bookmarks too, until the API server ends it.

        Raises as `request` does.

        Args:
            accept: what there is of an object in each; metadata alone, or JSON for all of it.
            begun: called once the API server has taken it.
        """
        if self._watching is None:
            self._watching = await self.session(connections=0)
        server, session = self._watching
        asked = {"watch": "true", "allowWatchBookmarks": "true", **query}
        asked["timeoutSeconds"] = str(WATCH_SECONDS)
        try:
            async with session.get(
                f"{server}{path}",
                params=asked,
                headers={"Accept": accept},
                timeout=WATCH_TIMEOUT,
            ) as response:
                if response.status == 401:
                    # Its token has ended; the next attempt reads the one on disk.
                    await self._close_watching()
                    raise Unavailable(f"WATCH {path}: HTTP 401")
                if response.status != 200:
                    raise _failure(f"WATCH {path}", response.status, await response.read())
                begun()
                try:
                    async for line in _lines(response.content.iter_any()):
                        yield json.loads(line)
                finally:
                    # NB: an orderly end of TLS would outlast the session; a watch has no other.
                    if response.connection is not None and response.connection.transport:
                        response.connection.transport.abort()
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            # NB: RuntimeError is what a session gives that was closed meanwhile.
            told = str(error) or type(error).__name__
            raise Unavailable(f"WATCH {path}: {told}") from error

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = JSON,
        accept: str = JSON,
        confidential: bool = False,
    ) -> dict[str, Any]:
        """The JSON that answers a request.

        Raises:
            Unavailable: no answer in time, or one that says to come back later.
            Gone: there is no such thing.
            Refused: any other answer but success.
        """
        asking = self._client
        send = partial(_exchange, query=query, body=body, content=content, accept=accept)
        code, text = await send(asking, method, path)
        if code == 401:
            # Tokens of a kubeconfig or of an exec plugin end; what is on disk now may be good.
            await self._renew(asking)
            code, text = await send(self._client, method, path)
        if 200 <= code < 300:
            return dict(json.loads(text))
        raise _failure(f"{method} {path}", code, text, confidential=confidential)

    async def _close_watching(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            await watching[1].close()

    async def _renew(self, stale: client.ApiClient) -> None:
        async with self._renewing:
            if self._client is not stale:
                return
            try:
                self._client = _client(await _configuration())
            except NotConfigured as error:
                raise Unavailable(str(error)) from error
            await stale.close()  # type: ignore[no-untyped-call]


async def _configuration() -> client.Configuration:
    found = client.Configuration()
    named = os.environ.get("KUBECONFIG")
    try:
        if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=named or str(Path.home() / ".kube" / "config"),
                client_configuration=found,
                persist_config=False,
            )
    except (
        config.ConfigException,
        yaml.YAMLError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise NotConfigured(
            f"no usable Kubernetes configuration ({error}): set KUBECONFIG, or run in a pod"
        ) from error
    return found


def _client(configuration: client.Configuration) -> client.ApiClient:
    asking = client.ApiClient(configuration)
    # NB: the API server takes the part before the slash for the field manager of what is not
    # applied.
    asking.user_agent = f"{AGENT}/{version('llm-backend')}"
    return asking


async def _exchange(
    asking: client.ApiClient,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None,
    body: Mapping[str, Any] | None,
    content: str,
    accept: str,
) -> tuple[int, bytes]:
    """One request and its answer, whatever that is."""
    try:
        prepared = await asking.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = await asking.call_api(*prepared, _request_timeout=TIMEOUT)
        return response.status, await response.read()  # type: ignore[no-untyped-call]
    except (aiohttp.ClientError, TimeoutError, OSError, config.ConfigException) as error:
        told = str(error) or type(error).__name__
        raise Unavailable(f"{method} {path}: {told}") from error


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream, however long. NB: aiohttp's own have a longest."""
    pending = b""
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _failure(asked: str, code: int, text: bytes, *, confidential: bool = False) -> PortError:
    """What an answer that is no success means."""
    said = _said(code, text)
    message = f"{asked}: HTTP {code}" + ("" if confidential else f": {said.message[:500]}")
    kept = None if confidential else said
    if code in (404, 410) or any(reason == TERMINATING for reason, _, _ in said.causes):
        return Gone(message, said=kept)
    if code in (408, 409, 429) or code >= 500:
        return Unavailable(message, said=kept)
    return Refused(message, said=kept)


def _said(code: int, text: bytes) -> Said:
    try:
        answer = json.loads(text)
        details = answer.get("details") or {}
        return Said(
            code=code,
            reason=str(answer.get("reason") or ""),
            message=str(answer["message"]),
            kind=str(details.get("kind") or ""),
            causes=tuple(_cause(cause) for cause in details.get("causes") or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Said(code=code, message=text[:200].decode(errors="replace"))


def _cause(given: Mapping[str, Any]) -> tuple[str, str, str]:
    reason, field, message = (str(given.get(key) or "") for key in ("reason", "field", "message"))
    return reason, field, message
