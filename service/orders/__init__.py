"""What an order is and when its money adds up. Pure: no I/O, no clock, no network, no database."""
