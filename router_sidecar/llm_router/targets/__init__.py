"""The kinds of hosts: one file a kind, one row in the table."""

from collections.abc import Mapping

from llm_contract import TargetType
from llm_router.targets.mlx import MlxTarget
from llm_router.targets.ollama import OllamaTarget
from llm_router.targets.openai import OpenAITarget
from llm_router.targets.target import Decoder, Outgoing, Target, Terms, decoded

__all__ = ["TARGETS", "Decoder", "Outgoing", "Target", "Terms", "decoded"]

#: Target type -> how it is spoken to.
TARGETS: Mapping[TargetType, Target] = {
    TargetType.OLLAMA: OllamaTarget(),
    TargetType.MLX: MlxTarget(),
    TargetType.OPENAI: OpenAITarget(),
}
