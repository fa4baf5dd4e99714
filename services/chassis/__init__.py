"""The one shared library of the services. It knows no service and no provider, and of the business only what several
services say: money and banking days, who acts for which party, what waits for a second person, and shared refusals."""
