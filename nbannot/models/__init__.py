"""The models: one protocol, a registry, and the backends behind it (each imported only when it is named)."""

from __future__ import annotations
