"""The lock on the door: who asks (tokens, OIDC), what they may (roles), how much (limits)."""
