"""Who notices a hole punched into the guest's memory, which no event announces?"""

from results.tables.hazard_table import hazard

answer = hazard("punched_hole")
