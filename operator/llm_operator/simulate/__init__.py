"""Simulated Ollama and MLX servers, true to the wire, for people without a host and for tests.

llmb simulate ollama|mlx    server.run
in a test                   server.serve, behaviour.Behaviour
"""
