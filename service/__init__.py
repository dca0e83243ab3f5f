"""Cuadre: keeps a merchant's own Postgres equal to Mercado Pago's orders."""

__version__ = "0.1.0"
