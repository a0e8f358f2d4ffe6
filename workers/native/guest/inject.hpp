// Faults of a page server's own, made on purpose so that a run can show what they do to a guest, and what saves it.
#pragma once

#include <cstdint>

namespace uffd {

struct Inject {
  double drop_events_share = 0.0;         ///< events that are read and then forgotten, as by a reader that died
  double wake_every_ms = 0.0;             ///< the cure: UFFDIO_WAKE over everything, so that forgotten events come again
  bool contents_bit = true;               ///< false: a reader takes a minor event for the proof that the contents are complete
  double fill_pause_us = 0.0;             ///< between the halves of a page filled in place: contents that arrive in parts
  std::uint64_t vanish_after_events = 0;  ///< each reader closes its userfaultfds then, as its end would; 0: never
};

}  // namespace uffd
