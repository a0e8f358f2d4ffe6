"""The driver: a Hydra configuration becomes a plan, the plan runs on Ray, its records reach the data set."""
