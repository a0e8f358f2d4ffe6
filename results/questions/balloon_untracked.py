"""What does a balloon do that drops pages behind the VMM's back, and does hearing of it help?"""

from results.tables.hazard_table import hazard

answer = hazard("balloon_untracked")
