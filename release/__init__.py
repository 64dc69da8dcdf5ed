"""What a release is made of, and how it is made: `make release`, described in docs/release.md."""
