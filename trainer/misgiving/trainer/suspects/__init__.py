"""Labels that nets contradict which never saw them: found, listed and pictured."""
