"""Two measurements of the same thing: judges and people, labels and predictions."""
