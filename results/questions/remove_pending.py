"""How often does resolving say EAGAIN because a remove event is still unread?"""

from results.tables.hazard_table import hazard

answer = hazard("remove_pending")
