"""The LLMBackend CRD, as package data: the operator applies its rules offline too."""
