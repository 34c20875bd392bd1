"""Has a stream changed? Sequential detectors over many streams."""
