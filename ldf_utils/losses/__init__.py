"""The losses of language-driven fusion."""
