"""Payment providers: one package each. Only a provider's package and the table in domain/rails.py know its name."""
