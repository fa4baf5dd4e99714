"""The one shared library of the services. It knows no service, no provider and no business noun."""
