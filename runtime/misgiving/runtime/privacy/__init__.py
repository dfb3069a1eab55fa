"""What may be kept of a frame for the fleet, and what of it nobody shall see."""
