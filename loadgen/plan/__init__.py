"""From a resolved configuration to a frozen plan. Pure: no Ray, no clock."""
