// Python's view of the core: translation only. Every long call releases the GIL, nothing crosses per fault.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "binding/configs.hpp"
#include "binding/describe.hpp"
#include "binding/reports.hpp"
#include "guest/rounds.hpp"
#include "guest/touched_words.hpp"
#include "resolve/fill.hpp"
#include "source/mapped_snapshot.hpp"
#include "source/snapshot.hpp"
#include "vcpu/calibration.hpp"

namespace uffd {

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

template <typename Work>
auto without_gil(Work work) {
  const nb::gil_scoped_release release;
  return work();
}

template <typename Names>
nb::tuple name_tuple(const Names& all) {
  nb::list out;
  for (const char* name : all) out.append(name);
  return nb::tuple(out);
}

ExitKind exit_kind(const std::string& name) {
  for (const ExitKind kind : {ExitKind::none, ExitKind::signal, ExitKind::probe, ExitKind::populate})
    if (name == exit_kind_name(kind)) return kind;
  throw ConfigError("exit kind '" + name + "' is unknown; it is one of none, signal, probe, populate");
}

void bind_vocabulary(nb::module_& m) {
  // Made when it is first asked for: numpy takes as long to import as the rest of this package.
  m.def("__getattr__", [](const std::string& name) -> nb::object {
    if (name == "FAULT_DTYPE") return fault_dtype();
    throw nb::attribute_error(("module 'workers._native' has no attribute '" + name + "'").c_str());
  });
  m.attr("KINDS") = name_tuple(kKindNames);
  m.attr("OUTCOMES") = name_tuple(kOutcomeNames);
  m.attr("EXITS") = name_tuple(kExitNames);
  m.def("strategies", &describe_strategies);
  m.def("engines", &describe_engines);
  m.def("probe_kvm", &describe_kvm);
  m.def("refuse_base_pages", &refuse_base_pages);
  m.def("try_own_accesses", &describe_own_accesses);
  m.def(
      "exit_kind",
      [](const std::string& strategy, const std::map<std::string, std::int64_t>& options) {
        const StrategyInfo& info = strategy_info(strategy);
        return exit_kind_name(info.make(complete_options(info, options))->exit(info.exit));
      },
      "strategy"_a, "options"_a);
  m.def("probe_userfaultfd", &describe_userfaultfd);
  m.def("clock", &describe_clock);
  m.def(
      "calibrate",
      [](const std::string& kind, const std::string& memory, std::uint64_t pages) {
        const ExitKind exit = exit_kind(kind);
        const MemoryType type = memory_type(memory);
        return to_dict(without_gil([&] { return calibrate(exit, type, pages); }));
      },
      "kind"_a, "memory_type"_a, "pages"_a);
  m.def("emulated_operations", &describe_emulated);
}

/// A KernelError becomes an OSError with its errno.
void bind_errors(nb::module_& m) {
  static nb::object kernel_error = nb::exception<KernelError>(m, "KernelError", PyExc_OSError);
  nb::register_exception_translator(
      [](const std::exception_ptr& error, void* type) {
        try {
          std::rethrow_exception(error);
        } catch (const KernelError& failure) {
          // OSError(errno, message), so that errno is an attribute.
          const nb::object instance = nb::borrow(static_cast<PyObject*>(type))(failure.error(), failure.what());
          PyErr_SetObject(static_cast<PyObject*>(type), instance.ptr());
        }
      },
      kernel_error.ptr());
}

nb::bytes words_of_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed) {
  const auto words = without_gil([&] { return touched_words(path, region_bytes, page_bytes, seed); });
  return nb::bytes(words.data(), words.size() * sizeof words[0]);
}

void set_touched_words(const Guest& guest, const nb::bytes& words) {
  const std::span<std::uint64_t> table = guest.touched_words();
  if (words.size() != table.size_bytes()) throw ConfigError("touched words must be one a page of a guest with contents_of_file");
  std::memcpy(table.data(), words.data(), table.size_bytes());
}

void bind_guest(nb::module_& m) {
  nb::class_<Guest>(m, "Guest")
      .def(
          "__init__",
          [](Guest* self, nb::dict config) {
            const GuestConfig asked = guest_config(config);
            nb::gil_scoped_release release;
            new (self) Guest(asked);
          },
          "config"_a)
      .def_static("attach", &Guest::attach, "region_fd"_a, "shared_fd"_a)
      .def_prop_ro("region_fd", &Guest::region_fd)
      .def_prop_ro("shared_fd", &Guest::shared_fd)
      .def(
          "fill",
          [](const Guest& guest, nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> kinds) {
            return to_dict(without_gil([&] { return fill(guest, {kinds.data(), kinds.size()}); }));
          },
          "kinds"_a)
      .def("open_contents", &Guest::open_contents, "path"_a)
      .def("set_touched_words", &set_touched_words, "words"_a)
      .def(
          "wait_armed",
          [](const Guest& guest, double timeout_s) { return guest.wait_armed(static_cast<std::uint64_t>(timeout_s * 1e9)); },
          "timeout_s"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("release", &Guest::release, "at_ns"_a, "rounds"_a, nb::call_guard<nb::gil_scoped_release>())
      .def(
          "wait_round",
          [](const Guest& guest, std::uint32_t finished, double timeout_s) {
            return static_cast<double>(wait_finished(guest, finished, static_cast<std::uint64_t>(timeout_s * 1e9))) / 1e9;
          },
          "finished"_a, "timeout_s"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("rounds_full", [](const Guest& guest) { return guest.header().rounds.full.load() != 0; })
      .def(
          "decide_round", [](const Guest& guest, std::uint32_t finished, bool another) { decide(guest, finished, another); },
          "finished"_a, "another"_a)
      .def("rounds_ended", [](const Guest& guest) { return rounds_ended_name(guest); })
      .def("stop", &Guest::stop, "reason"_a)
      .def("stop_reason", &Guest::stop_reason);
}

void bind_page_server(nb::module_& m) {
  nb::class_<PageServer>(m, "PageServer")
      .def(
          "__init__",
          [](PageServer* self, const Guest& guest, nb::dict config) {
            PageServerConfig asked = server_config(config);
            nb::gil_scoped_release release;
            new (self) PageServer(guest, std::move(asked));
          },
          "guest"_a, "config"_a, nb::keep_alive<1, 2>())
      .def(
          "add_userfaultfd",
          [](PageServer& server, int fd, nb::iterable regions, int vmm, int record_fd, int faults_fd) {
            std::vector<RegionView> views = region_views(regions);
            nb::gil_scoped_release release;
            server.add(fd, std::move(views), vmm, record_fd, faults_fd);
          },
          "fd"_a, "regions"_a, nb::kw_only(), "vmm"_a, "record_fd"_a, "faults_fd"_a)
      .def("serve", &PageServer::serve, nb::call_guard<nb::gil_scoped_release>())
      .def("stop", &PageServer::stop)
      .def("look", [](PageServer& server) { return to_dict(server.look()); })  // the GIL makes it one caller at a time
      .def("counters", [](const PageServer& server) { return to_dict(server.counters()); })
      .def("prefetch_marks", &prefetch_marks)
      .def("source_counts", [](const PageServer& server) { return to_dict(server.source()); })
      .def("threads", &server_threads)
      .def("brought", [](const PageServer& server) { return nb::bytes(server.brought().data(), server.brought().size()); })
      .def("page_states", [](const PageServer& server) { return to_dict(server.page_states()); })
      .def("logged_faults", &logged_faults);

  nb::class_<MappedSnapshot>(m, "MappedSnapshot")
      .def(nb::init<const std::string&>(), "path"_a)
      .def_prop_ro("bytes", &MappedSnapshot::bytes)
      .def_prop_ro("hole_pages", &MappedSnapshot::hole_pages);
  m.def(
      "touched_pages",
      [](nb::dict access, std::uint64_t pages, std::uint32_t vcpus, std::uint64_t seed) {
        const AccessConfig config = access_config(access);
        const auto touched = without_gil([&] { return touched_pages(config, pages, vcpus, seed); });
        return nb::bytes(touched.data(), touched.size());
      },
      "access"_a, "pages"_a, "vcpus"_a, "seed"_a);
}

void bind_source(nb::module_& m) {
  m.def("touched_words", &words_of_snapshot, "path"_a, "region_bytes"_a, "page_bytes"_a, "seed"_a);
  m.def("write_snapshot", &write_snapshot, "path"_a, "region_bytes"_a, "page_bytes"_a, "seed"_a,
        nb::call_guard<nb::gil_scoped_release>());
  m.def("check_snapshot", &check_snapshot, "path"_a, "region_bytes"_a, "page_bytes"_a, "seed"_a,
        nb::call_guard<nb::gil_scoped_release>());
  nb::class_<SourceServer>(m, "SourceServer")
      .def(
          "__init__",
          [](SourceServer* self, nb::dict config) {
            const SourceServerConfig asked = source_server_config(config);
            nb::gil_scoped_release release;
            new (self) SourceServer(asked);
          },
          "config"_a)
      .def_prop_ro("port", &SourceServer::port)
      .def("served", [](const SourceServer& server) { return to_dict(server.served()); })
      .def("stop", &SourceServer::stop, nb::call_guard<nb::gil_scoped_release>());
}

void bind_vmm(nb::module_& m) {
  nb::class_<Vmm>(m, "Vmm")
      .def(
          "__init__",
          [](Vmm* self, const Guest& guest, nb::dict config) {
            VmmConfig asked = vmm_config(config);
            nb::gil_scoped_release release;
            new (self) Vmm(guest, std::move(asked));
          },
          "guest"_a, "config"_a, nb::keep_alive<1, 2>())
      .def("userfaultfds", &vmm_userfaultfds)
      .def_prop_ro("record_fd", &Vmm::record_fd)
      .def_prop_ro("faults_fd", &Vmm::faults_fd)
      .def("prepare", [](Vmm& vmm) { return to_dict(without_gil([&] { return vmm.prepare(); })); })
      .def("reclaim", &Vmm::reclaim, nb::call_guard<nb::gil_scoped_release>())
      .def("let_go", &Vmm::let_go)
      .def("run", &Vmm::run, nb::call_guard<nb::gil_scoped_release>())
      .def("finish", &Vmm::finish, nb::call_guard<nb::gil_scoped_release>())
      .def("verify", [](const Vmm& vmm) { return to_dict(without_gil([&] { return vmm.verify(); })); })
      .def("counters", [](const Vmm& vmm) { return to_dict(vmm.counters()); })
      .def_prop_ro("unprepared", &Vmm::unprepared)
      .def("vcpus", &vmm_vcpus)
      .def("disturbers", &vmm_disturbers)
      .def("device_userfaultfd", &vmm_device_userfaultfd)
      .def_prop_ro("brought_untouched", &Vmm::brought_untouched)
      .def("page_nodes", &Vmm::page_nodes)
      .def("page_states", [](const Vmm& vmm) { return to_dict(vmm.page_states()); })
      .def("records", &vcpu_records, "vcpu"_a);
}

}  // namespace
}  // namespace uffd

NB_MODULE(_native, m) {
  uffd::bind_vocabulary(m);
  uffd::bind_errors(m);
  uffd::bind_guest(m);
  uffd::bind_page_server(m);
  uffd::bind_source(m);
  uffd::bind_vmm(m);
}
