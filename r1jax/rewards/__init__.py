"""What a stage rewards: accuracy by a verifier (`r1jax.verifiers`), format, language. No jax."""
