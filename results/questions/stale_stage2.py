"""What happens to a vCPU that believes a page mapped which is not any more?"""

from results.tables.hazard_table import hazard

answer = hazard("stale_stage2")
