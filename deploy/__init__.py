"""How the product is put on machines: `local` for one machine, `provision` for the streams every place needs."""
