"""What do devices get that reach guest memory by system calls?"""

from results.hazard_table import hazard

answer = hazard("device_efault")
