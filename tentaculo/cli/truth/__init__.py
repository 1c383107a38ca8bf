"""`tentaculo truth`: every service probed once, compared and reported."""
