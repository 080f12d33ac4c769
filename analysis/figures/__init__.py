"""Pictures of searches. Each function takes tables and returns a Figure; it neither computes statistics nor saves."""
