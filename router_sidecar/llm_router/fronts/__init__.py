"""The client protocols: one file a family, one row a route."""

from collections.abc import Mapping

from llm_router.fronts import completions, embeddings, lists, ollama, openai, unified
from llm_router.fronts.front import About, Encoder, Front
from llm_router.fronts.lists import List

__all__ = ["LISTS", "OLLAMA", "OPENAI", "REFUSED", "ROUTES", "About", "Encoder", "Front", "List"]

#: In whose words a path is answered that is no front's own.
OPENAI, OLLAMA = openai.ChatFront(), ollama.ChatFront()

#: Path on the data port -> the front that answers its POST by asking a host.
ROUTES: Mapping[str, Front] = {
    "/v1/chat/completions": OPENAI,
    "/v1/completions": completions.CompletionFront(),
    "/v1/embeddings": embeddings.OpenAIFront(),
    "/api/chat": OLLAMA,
    "/api/generate": ollama.GenerateFront(),
    "/api/embed": embeddings.OllamaFront(),
    "/api/embeddings": embeddings.OlderOllamaFront(),
    "/generate": unified.GenerateFront(),
}

#: Method and path -> what is answered without a host. `{id}` is the rest of a path; HEAD goes
#: wherever GET does.
LISTS: Mapping[tuple[str, str], List] = {
    ("GET", "/v1/models"): List(OPENAI, lists.models),
    ("GET", "/v1/models/{id}"): List(OPENAI, lists.model),
    ("GET", "/api/tags"): List(OLLAMA, lists.tags),
    ("GET", "/api/ps"): List(OLLAMA, lists.running),
    ("GET", "/api/version"): List(OLLAMA, lists.version),
    ("POST", "/api/show"): List(OLLAMA, lists.show),
    ("GET", "/"): List(OLLAMA, lists.greeting, lists.TEXT),
}

#: Ollama's paths that change what a host holds -> what they do. They are refused by any method.
REFUSED: Mapping[str, str] = {
    "/api/pull": "pulling a model",
    "/api/push": "pushing a model",
    "/api/create": "creating a model",
    "/api/copy": "copying a model",
    "/api/delete": "deleting a model",
    "/api/blobs/{id}": "storing a blob",
}
