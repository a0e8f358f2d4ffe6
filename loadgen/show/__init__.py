"""Output for users while runs are planned and measured."""
