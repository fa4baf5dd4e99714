"""Who gets what: offerings, investments, distributions and the waterfall."""
