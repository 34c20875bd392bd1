"""How driftline is brought to machines: image, compose file, chart, and what they are made with.

Not part of the wheel.
"""
