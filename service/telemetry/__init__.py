"""What the service says about itself: metrics and log lines. Any room with I/O may use it."""
