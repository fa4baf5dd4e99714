"""Payment providers: the windows to the outside world. Never opened while a database transaction is."""
