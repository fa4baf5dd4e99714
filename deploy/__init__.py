"""How the product is put on machines: `local` for one machine; what every installation is made with lies beside it."""
