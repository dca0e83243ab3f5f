"""What tests of several rooms share: made-up orders, a provider on loopback, waiting on conditions."""
