// After a run: the fault records' stamps become CLOCK_MONOTONIC nanoseconds, and each record gets the kind of its page.
#pragma once

#include <cstdint>
#include <span>

#include "guest/fault_record.hpp"
#include "guest/guest.hpp"
#include "kernel/clock.hpp"
#include "vcpu/access_account.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

/// Of a vCPU, whose records are those of `rounds` in their order.
void convert_stamps(const Guest& guest, const TickLine& line, std::span<FaultRecord> records, std::span<const Vcpu::Round> rounds,
                    LongestFault& longest) noexcept;

}  // namespace uffd
