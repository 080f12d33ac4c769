"""Pictures. Each function takes data and returns a Figure; it neither computes nor saves."""
