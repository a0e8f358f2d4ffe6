"""What a user sees while runs are planned and measured."""
