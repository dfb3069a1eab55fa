"""Who is in the frame: a detector, fixed places of a camera, or those of the frame before."""
