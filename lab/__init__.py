"""A lab of containers that look like Raspberry Pis: apart from the product, which does not know it."""
