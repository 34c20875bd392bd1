"""What people run today, for comparison: each module is a program of its own."""
