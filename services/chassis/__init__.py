"""The one shared library of the services: a pure floor of rules, and a runtime floor of pipes."""
