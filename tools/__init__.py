"""What writes the generated pages of docs/, a module a page: `python -m tools.NAME > docs/NAME.md`."""
