"""The vehicle's side of the fleet's control: reports go out, campaigns come in."""
