"""The fleet's part: takes flagged frames in, hands them to annotators, takes labels back."""
