"""What LLMBackends refer to, on a real API server: credentials copied, changes noticed, nothing
else read or told.
"""

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx
import psycopg
import pytest

from llm_operator.references.supply import LIMIT
from parts.access import RBAC, User, bind, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rules

pytestmark = pytest.mark.usefixtures("crd")

#: A resync that repairs within a test; without it, what is noticed is noticed by a watch.
RESYNC = {"LLMB_RESYNC_SECONDS": "1"}

VAULT = "llm-router-credentials"
LABEL = {"llm.athena.dev/credential": "true"}
CANARY = "canary-3f9c1d"

MakeOperator = Callable[..., Operator]


class Place(Backends):
    """A namespace with the objects that its LLMBackends refer to."""

    __slots__ = ()

    def put(self, kind: str, name: str, **body: Any) -> None:
        """Create or replace a Secret, ConfigMap or Service."""
        manifest = {"apiVersion": "v1", "kind": kind, **body}
        manifest["metadata"] = {"name": name, "namespace": self.namespace} | body.get(
            "metadata", {}
        )
        with self.control_plane.client() as client:
            core = f"/api/v1/namespaces/{self.namespace}/{kind.lower()}s"
            answer = client.put(f"{core}/{name}", json=manifest)
            if answer.status_code == httpx.codes.NOT_FOUND:
                answer = client.post(core, json=manifest)
            expect(answer)

    def secret(self, name: str, *, labelled: bool = True, **values: str) -> None:
        metadata = {"labels": LABEL} if labelled else {}
        self.put("Secret", name, metadata=metadata, stringData=values)

    def drop(self, kind: str, name: str) -> None:
        self.control_plane.kubectl("delete", kind, name, "-n", self.namespace)

    def label(self, name: str, *, on: bool) -> None:
        word = "llm.athena.dev/credential=true" if on else "llm.athena.dev/credential-"
        self.control_plane.kubectl("label", "secret", name, word, "-n", self.namespace)

    def full(self, name: str, *targets: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
        """A resource of the full form."""
        usual = {"modelName": name, "targets": list(targets)}
        return self.manifest(name, **({"backendType": None, "endpointURL": None} | usual | spec))

    def vault(self) -> dict[str, str] | None:
        """The values in the routers' Secret; None when there is none."""
        with self.control_plane.client() as client:
            answer = client.get(f"/api/v1/namespaces/{self.namespace}/secrets/{VAULT}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        data = expect(answer).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def is_(self, name: str, ready: str) -> bool:
        return self.conditions(name).get("Ready") == ready

    def message(self, name: str, kind: str = "ResolvedRefs") -> str:
        found = self.get(name)["status"]["conditions"]
        return next(str(one["message"]) for one in found if one["type"] == kind)


def target(name: str = "mac", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "openai", "endpointURL": f"https://{name}.lan:8443"} | fields


def auth(secret: str, key: str = "token") -> dict[str, Any]:
    return {"auth": {"secretRef": {"name": secret, "key": key}}}


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str) -> Iterator[Place]:
    made = Place(control_plane, namespace)
    yield made
    control_plane.kubectl("delete", "services", "--all", "-n", namespace)


def test_values_are_copied_under_the_names_that_are_published(
    make_operator: MakeOperator, place: Place
) -> None:
    place.secret("tok", token="t-1", other="not referred to")
    place.secret("pair", **{"tls.crt": "CERT", "tls.key": "KEY"})
    place.put("ConfigMap", "home-ca", data={"ca.crt": "PEM", "more": "x"})
    place.put("Service", "host", spec={"ports": [{"port": 8443}]})
    make_operator().start()
    tls = {"tls": {"caRef": {"name": "home-ca"}, "clientCertRef": {"name": "pair"}}}
    service = {"serviceRef": {"name": "host", "port": 8443, "scheme": "https"}}
    own = {k: v for k, v in target("svc").items() if k != "endpointURL"}
    place.apply(place.full("phi", target(**auth("tok"), **tls), own | service))
    eventually(lambda: place.ready("phi"), within=10)
    assert place.conditions("phi")["ResolvedRefs"] == "True/Resolved"
    assert place.vault() == {
        "tok_token": "t-1",
        "_home-ca_ca.crt": "PEM",
        "pair_tls.crt": "CERT",
        "pair_tls.key": "KEY",
    }
    route = place.config().routes[0]
    assert route.targets[0].auth is not None
    assert route.targets[0].auth.credential == "tok_token"
    with place.control_plane.client() as client:
        found = expect(client.get(f"/api/v1/namespaces/{place.namespace}/secrets/{VAULT}"))
    assert found["type"] == "Opaque"
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "llm-backend-operator"}
    (manager,) = found["metadata"]["managedFields"]
    assert (manager["manager"], manager["operation"]) == ("llm-backend-operator", "Apply")


@pytest.mark.check(19)
def test_each_reason_and_its_cure_without_a_restart(
    make_operator: MakeOperator, place: Place
) -> None:
    make_operator().start()
    own = {k: v for k, v in target("svc").items() if k != "endpointURL"}
    place.apply(
        place.full("secret", target(**auth("tok"))),
        place.full("key", target(**auth("tok2"))),
        place.full("map", target(tls={"caRef": {"name": "home-ca"}})),
        place.full("service", own | {"serviceRef": {"name": "host", "port": 80}}),
    )
    eventually(lambda: place.is_("secret", "False/SecretNotFound"), within=10)
    eventually(lambda: place.is_("map", "False/ConfigMapNotFound"), within=10)
    eventually(lambda: place.is_("service", "False/ServiceNotFound"), within=10)
    assert place.conditions("secret")["ConfigPublished"] == "False/NotResolved"
    assert place.conditions("secret")["Accepted"] == "True/Valid"
    assert "Stalled" not in place.conditions("secret")
    assert "'tok'" in place.message("secret")
    assert "spec.targets[0].auth.secretRef" in place.message("secret")
    assert place.config().routes == ()
    assert place.vault() is None

    place.secret("tok", labelled=False, token="t-1")
    place.apply(place.full("secret", target(**auth("tok")), description="look again"))
    eventually(lambda: place.is_("secret", "False/SecretNotAllowed"), within=5)
    place.label("tok", on=True)
    eventually(lambda: place.ready("secret"), within=5)
    assert place.vault() == {"tok_token": "t-1"}

    place.secret("tok2", wrong="x")
    eventually(lambda: place.is_("key", "False/KeyMissing"), within=5)
    place.secret("tok2", token="t-2")
    eventually(lambda: place.ready("key"), within=5)

    place.put("ConfigMap", "home-ca", data={"wrong": "x"})
    eventually(lambda: place.is_("map", "False/KeyMissing"), within=5)
    place.put("ConfigMap", "home-ca", data={"ca.crt": "PEM"})
    eventually(lambda: place.ready("map"), within=5)

    place.put("Service", "host", spec={"ports": [{"port": 80}]})
    eventually(lambda: place.ready("service"), within=5)
    assert {route.name for route in place.config().routes} == {"secret", "key", "map", "service"}


def test_every_change_of_a_value_is_noticed(make_operator: MakeOperator, place: Place) -> None:
    place.secret("tok", token="t-1")
    place.put("ConfigMap", "home-ca", data={"ca.crt": "PEM"})
    make_operator().start()
    place.apply(place.full("phi", target(**auth("tok"), tls={"caRef": {"name": "home-ca"}})))
    eventually(lambda: place.ready("phi"), within=10)
    published = place.configmap()
    for number in range(2, 5):
        place.secret("tok", token=f"t-{number}")
        wanted = {"tok_token": f"t-{number}", "_home-ca_ca.crt": "PEM"}
        eventually(lambda wanted=wanted: place.vault() == wanted, within=3)
    place.put("ConfigMap", "home-ca", data={"ca.crt": "PEM 2"})
    eventually(lambda: place.vault() == {"tok_token": "t-4", "_home-ca_ca.crt": "PEM 2"}, within=3)
    place.drop("configmap", "home-ca")
    eventually(lambda: place.vault() == {"tok_token": "t-4"}, within=3)
    place.put("ConfigMap", "home-ca", data={"ca.crt": "PEM 3"})
    eventually(lambda: place.vault() == {"tok_token": "t-4", "_home-ca_ca.crt": "PEM 3"}, within=3)
    assert place.configmap() == published, "a value is no matter of the configuration"


@pytest.mark.parametrize("how", ["deleted", "label removed", "key removed"])
def test_what_is_withdrawn_goes_and_comes_back(
    make_operator: MakeOperator, place: Place, how: str
) -> None:
    place.secret("tok", token="t-1")
    make_operator().start()
    place.apply(place.full("phi", target(**auth("tok"))))
    eventually(lambda: place.ready("phi"), within=10)
    published = place.config()
    if how == "deleted":
        place.drop("secret", "tok")
        reason = "False/SecretNotFound"
    elif how == "label removed":
        place.label("tok", on=False)
        reason = "False/SecretNotAllowed"
    else:
        place.secret("tok", other="x")
        reason = "False/KeyMissing"
    eventually(lambda: place.vault() == {}, within=3)
    eventually(lambda: place.is_("phi", reason), within=3)
    assert place.conditions("phi")["ConfigPublished"] == "True/Published"
    assert place.config() == published, "its route stays"
    if how == "label removed":
        place.label("tok", on=True)
    else:
        place.secret("tok", token="t-2")
    eventually(lambda: place.ready("phi"), within=3)
    assert place.vault() == {"tok_token": "t-1" if how == "label removed" else "t-2"}


def test_a_bad_edit_keeps_the_last_good_form_and_its_credential(
    make_operator: MakeOperator, place: Place
) -> None:
    place.secret("tok", token="t-1")
    make_operator().start()
    place.apply(place.full("phi", target(**auth("tok"))), place.full("llama", target("l")))
    eventually(lambda: place.ready("phi") and place.ready("llama"), within=10)
    before = place.config()
    place.apply(place.full("phi", target("new", **auth("nowhere"))))
    eventually(lambda: place.is_("phi", "False/SecretNotFound"), within=5)
    assert place.conditions("phi")["ConfigPublished"] == "False/NotResolved"
    assert "generation 1 stays" in place.message("phi", "ConfigPublished")
    assert place.config() == before
    assert place.vault() == {"tok_token": "t-1"}
    place.secret("tok", token="t-2")
    eventually(lambda: place.vault() == {"tok_token": "t-2"}, within=3)
    place.secret("nowhere", token="n")
    eventually(lambda: place.ready("phi"), within=5)
    assert place.vault() == {"nowhere_token": "n"}
    assert place.urls()["phi"] == "https://new.lan:8443"


def test_a_target_that_needs_nothing_serves_meanwhile(
    make_operator: MakeOperator, place: Place
) -> None:
    make_operator().start()
    place.apply(place.full("phi", target("a", **auth("nowhere")), target("b")))
    eventually(lambda: place.is_("phi", "False/SecretNotFound"), within=10)
    assert place.conditions("phi")["ConfigPublished"] == "True/Published"
    assert [each.name for each in place.config().routes[0].targets] == ["a", "b"]


def test_two_share_a_secret_and_the_last_one_leaves_it_empty(
    make_operator: MakeOperator, place: Place
) -> None:
    place.secret("tok", token="t-1")
    make_operator().start()
    place.apply(place.full("one", target(**auth("tok"))), place.full("two", target(**auth("tok"))))
    eventually(lambda: place.ready("one") and place.ready("two"), within=10)
    assert place.vault() == {"tok_token": "t-1"}
    place.delete("one")
    assert place.vault() == {"tok_token": "t-1"}
    place.patch("two", {"spec": {"enabled": False}})
    eventually(lambda: place.ready("two"), within=5)
    assert place.vault() == {}
    place.patch("two", {"spec": {"enabled": True}})
    eventually(lambda: place.vault() == {"tok_token": "t-1"}, within=5)
    place.delete("two")
    assert place.vault() == {}


def test_a_foreign_secret_of_the_name_is_never_overwritten(
    make_operator: MakeOperator, place: Place
) -> None:
    place.put("Secret", VAULT, stringData={"theirs": "x"})
    place.secret("tok", token="t-1")
    make_operator(settings=RESYNC).start()
    place.apply(place.full("phi", target(**auth("tok"))), place.full("llama", target("l")))
    eventually(lambda: place.is_("phi", "False/NotOwned"), within=10)
    eventually(lambda: place.ready("llama"), within=5)
    assert VAULT in place.message("phi")
    assert place.vault() == {"theirs": "x"}
    place.drop("secret", VAULT)
    eventually(lambda: place.ready("phi"), within=10)
    assert place.vault() == {"tok_token": "t-1"}


def test_what_takes_more_than_a_secret_holds_is_told(
    make_operator: MakeOperator, place: Place
) -> None:
    place.secret("tok", token="t-1")
    place.secret("huge", token="x" * (LIMIT // 2), token2="y" * (LIMIT // 2))
    make_operator().start()
    place.apply(place.full("phi", target(**auth("tok"))))
    eventually(lambda: place.ready("phi"), within=10)
    place.apply(
        place.full("big", target("a", **auth("huge")), target("b", **auth("huge", "token2")))
    )
    eventually(lambda: place.is_("big", "False/TooLarge"), within=10)
    assert place.vault() == {"tok_token": "t-1"}
    assert place.is_("phi", "True/Ready")
    place.delete("big")
    assert place.vault() == {"tok_token": "t-1"}


def test_drift_is_repaired_by_the_resync(make_operator: MakeOperator, place: Place) -> None:
    place.secret("tok", token="t-1")
    operator = make_operator(settings=RESYNC)
    operator.start()
    place.apply(place.full("phi", target(**auth("tok"))))
    eventually(lambda: place.ready("phi"), within=10)
    place.control_plane.kubectl(
        *("patch", "secret", VAULT, "-n", place.namespace, "--type=merge", "-p"),
        json.dumps({"stringData": {"tok_token": "edited", "extra": "theirs"}}),
    )
    eventually(lambda: place.vault() == {"tok_token": "t-1", "extra": "theirs"}, within=10)
    place.drop("secret", VAULT)
    eventually(lambda: place.vault() == {"tok_token": "t-1"}, within=10)
    writes = vault_writes(place, operator)
    rounds = len(passes(place, operator))
    eventually(lambda: len(passes(place, operator)) > rounds + 4, within=20)
    assert vault_writes(place, operator) == writes, "idle is quiet"


def test_credentials_stand_before_the_configuration_and_go_after_it(
    make_operator: MakeOperator, place: Place
) -> None:
    place.secret("tok", token="t-1")
    place.secret("tok2", token="t-2")
    operator = make_operator()
    operator.start()
    place.apply(place.full("phi", target(**auth("tok"))))
    eventually(lambda: place.ready("phi"), within=10)
    place.apply(place.full("phi", target(**auth("tok2"))))
    eventually(lambda: place.ready("phi"), within=10)
    assert operator.user is not None
    done = place.control_plane.audit(user=operator.user.name, verbs=("patch",))
    turns = [
        sorted(event.body["data"]) if event.resource == "secrets" else "config"
        for event in done
        if event.resource in ("secrets", "configmaps") and event.namespace == place.namespace
    ]
    assert turns == [
        ["tok_token"],
        "config",
        ["tok2_token", "tok_token"],
        "config",
        ["tok2_token"],
    ]


def test_rights_taken_away_take_no_route_down(
    control_plane: ControlPlane, make_operator: MakeOperator, place: Place
) -> None:
    less = [dict(rule) for rule in rules() if "secrets" not in rule["resources"]]
    user = control_plane.create_user("less", less)
    more = copy.deepcopy([dict(rule) for rule in rules() if "secrets" in rule["resources"]])
    binding = grant(control_plane, user, more)
    place.secret("tok", token="t-1")
    operator = make_operator(user=user, settings=RESYNC)
    operator.start()
    place.apply(place.full("phi", target(**auth("tok"))), place.full("llama", target("l")))
    eventually(lambda: place.ready("phi") and place.ready("llama"), within=10)
    before = place.config()
    with control_plane.client() as client:
        expect(client.delete(binding))
    eventually(lambda: place.is_("phi", "False/ReadFailed"), within=20)
    assert "secrets is forbidden" in place.message("phi")
    assert place.config() == before
    assert place.vault() == {"tok_token": "t-1"}
    place.apply(place.full("llama", target("moved")))
    eventually(lambda: place.ready("llama"), within=10)
    assert place.urls() == {"phi": "https://mac.lan:8443", "llama": "https://moved.lan:8443"}
    place.apply(place.full("phi", target("elsewhere", **auth("tok"))))
    eventually(lambda: place.is_("phi", "False/ReadFailed"), within=10)
    assert place.urls()["phi"] == "https://mac.lan:8443", "what can't be judged is not published"
    grant(control_plane, user, more)
    eventually(lambda: place.ready("phi"), within=20)
    assert place.urls()["phi"] == "https://elsewhere.lan:8443"


def test_started_without_the_rights_it_says_which(
    control_plane: ControlPlane, make_operator: MakeOperator, place: Place
) -> None:
    less = [dict(rule) for rule in rules() if "secrets" not in rule["resources"]]
    operator = make_operator(user=control_plane.create_user("less", less))
    operator.start(ready=False)
    (line,) = eventually(lambda: operator.logged("rights_missing"), within=20)
    assert line["rights"] == [
        f"{verb} secrets in all namespaces" for verb in ("list", "watch", "create", "patch")
    ]


@pytest.mark.check(20)
def test_a_value_is_nowhere_but_in_the_two_secrets(
    make_operator: MakeOperator, place: Place, migrated: str
) -> None:
    place.secret("tok", token=CANARY, other=f"{CANARY}-2")
    place.secret("closed", labelled=False, token=f"{CANARY}-3")
    operator = make_operator(settings=RESYNC | {"LLMB_LOG_LEVEL": "DEBUG"})
    operator.start()
    place.apply(
        place.full("phi", target(**auth("tok"))),
        place.full("bad", target("a", **auth("tok", "none"))),
        place.full("refused", target("b", **auth("closed"))),
    )
    eventually(lambda: place.ready("phi"), within=10)
    eventually(lambda: place.is_("bad", "False/KeyMissing"), within=5)
    eventually(lambda: place.is_("refused", "False/SecretNotAllowed"), within=5)
    assert place.vault() == {"tok_token": CANARY}
    # An error with the value at hand: the Secret is not the operator's any more.
    place.drop("secret", VAULT)
    place.put("Secret", VAULT, stringData={"theirs": "x"})
    eventually(lambda: place.is_("phi", "False/NotOwned"), within=10)
    assert operator.end() == 0
    forms = (CANARY, base64.b64encode(CANARY.encode()).decode()[:-3])
    told = (operator.folder / "operator.log").read_text()
    told += json.dumps(place.items()) + json.dumps(place.configmap())
    with place.control_plane.client() as client:
        told += client.get(f"/api/v1/namespaces/{place.namespace}/events").text
    with psycopg.connect(migrated) as connection:
        query = "SELECT table_schema, table_name FROM information_schema.tables "
        tables = connection.execute(query + "WHERE table_schema = 'llmb'").fetchall()
        for schema, table in tables:
            told += str(connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall())
    assert [form for form in forms if form in told] == []
    assert "phi" in told


def test_no_other_secret_is_read(
    make_operator: MakeOperator, place: Place, control_plane: ControlPlane
) -> None:
    place.secret("closed", labelled=False, token="x")
    operator = make_operator()
    operator.start()
    place.apply(place.full("phi", target(**auth("closed"))))
    eventually(lambda: place.is_("phi", "False/SecretNotAllowed"), within=10)
    assert operator.user is not None
    done = control_plane.audit(user=operator.user.name, resource="secrets")
    asked = [dict(parse_qsl(event.raw["requestURI"].partition("?")[2])) for event in done]
    assert asked, "something was asked"
    for query in asked:
        labelled = query.get("labelSelector") == "llm.athena.dev/credential=true"
        own = query.get("fieldSelector") == f"metadata.name={VAULT}"
        assert labelled or own or query.get("includeObject") == "None", query


def grant(control_plane: ControlPlane, user: User, more: list[dict[str, Any]]) -> str:
    """Give rights that can be taken away. Returns the binding's path."""
    path = f"{RBAC}/clusterrolebindings"
    with control_plane.client() as client:
        before = {item["metadata"]["name"] for item in expect(client.get(path))["items"]}
        bind(client, user=user.name, rules=more)
        after = {item["metadata"]["name"] for item in expect(client.get(path))["items"]}
    (name,) = after - before
    return f"{path}/{name}"


def passes(place: Place, operator: Operator) -> list[Any]:
    assert operator.user is not None
    return place.control_plane.audit(
        user=operator.user.name,
        verbs=("list",),
        resource="llmbackends",
        namespace=place.namespace,
    )


def vault_writes(place: Place, operator: Operator) -> int:
    assert operator.user is not None
    return len(
        place.control_plane.audit(
            user=operator.user.name, verbs=("patch",), resource="secrets", namespace=place.namespace
        )
    )
