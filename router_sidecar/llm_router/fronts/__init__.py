"""The client protocols: one file a family, one row a route."""

from collections.abc import Mapping

from llm_router.fronts import ollama, openai, unified
from llm_router.fronts.front import About, Encoder, Front

__all__ = ["ROUTES", "About", "Encoder", "Front"]

#: Path on the data port -> the front that answers its POST.
ROUTES: Mapping[str, Front] = {
    "/v1/chat/completions": openai.ChatFront(),
    "/api/chat": ollama.ChatFront(),
    "/api/generate": ollama.GenerateFront(),
    "/generate": unified.GenerateFront(),
}
