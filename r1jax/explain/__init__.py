"""What an experiment will do, said before it runs: geometry, schedules, cost, and every field with its source."""
