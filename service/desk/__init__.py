"""The order desk: what somebody here asks Mercado Pago to do, written down before it is sent."""
