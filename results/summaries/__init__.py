"""What a data set holds, summed up: by configuration, by parameter, by fault."""
