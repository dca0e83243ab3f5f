"""The audit: proves the stored orders equal to Mercado Pago's, and finds what nobody told us of."""
