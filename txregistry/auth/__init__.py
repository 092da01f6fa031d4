"""Who asks, and what they may do: authenticators, tokens, rules."""
