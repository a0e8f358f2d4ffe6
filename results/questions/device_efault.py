"""What do devices get that reach guest memory by system calls?"""

from results.tables.hazard_table import hazard

answer = hazard("device_efault")
