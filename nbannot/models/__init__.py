"""The models: a registry and the backends behind it, each imported only when it is named."""
