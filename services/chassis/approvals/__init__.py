"""What waits for a second person: asked, shown, decided and done, once for every service."""
