//! What the filter does to real programs, as a table of behaviour: each test is one sentence.
//!
//! Needs root, a built `edgefilter` (EDGEFILTER_BIN, or the workspace's newest build) and the
//! programs each test names. What is missing is printed and skipped; with CI=true that is a failure.
//! EDGEFILTER_TEST_NO_FILTER=1 leaves the filter out: then everything that should be refused has to
//! get through, which proves that these tests can fail.

#[path = "namespaces/access.rs"]
mod access;
#[path = "namespaces/bypass.rs"]
mod bypass;
#[path = "namespaces/changes.rs"]
mod changes;
#[path = "namespaces/containers.rs"]
mod containers;
#[path = "namespaces/containers_bindings.rs"]
mod containers_bindings;
#[path = "namespaces/containers_forgeries.rs"]
mod containers_forgeries;
#[path = "namespaces/containers_life.rs"]
mod containers_life;
#[path = "namespaces/continuity.rs"]
mod continuity;
#[path = "namespaces/control.rs"]
mod control;
#[path = "namespaces/departures.rs"]
mod departures;
#[path = "namespaces/entries.rs"]
mod entries;
#[path = "namespaces/explain.rs"]
mod explain;
#[path = "namespaces/exposure.rs"]
mod exposure;
#[path = "namespaces/foresight.rs"]
mod foresight;
#[path = "namespaces/forged.rs"]
mod forged;
#[path = "namespaces/forgeries.rs"]
mod forgeries;
#[path = "namespaces/fuzz_control.rs"]
mod fuzz_control;
#[path = "namespaces/hardening.rs"]
mod hardening;
#[path = "namespaces/interfaces.rs"]
mod interfaces;
#[path = "namespaces/lockout.rs"]
mod lockout;
#[path = "namespaces/million.rs"]
mod million;
#[path = "namespaces/nftables.rs"]
mod nftables;
#[path = "namespaces/nftables_former.rs"]
mod nftables_former;
#[path = "namespaces/nftables_packets.rs"]
mod nftables_packets;
#[path = "namespaces/policy_files.rs"]
mod policy_files;
#[path = "namespaces/privileges.rs"]
mod privileges;
#[path = "namespaces/pushes.rs"]
mod pushes;
#[path = "namespaces/remote.rs"]
mod remote;
#[path = "namespaces/roles.rs"]
mod roles;
#[path = "namespaces/scan_arena.rs"]
mod scan_arena;
#[path = "namespaces/scan_benign.rs"]
mod scan_benign;
#[path = "namespaces/scan_flood.rs"]
mod scan_flood;
#[path = "namespaces/scan_forged.rs"]
mod scan_forged;
#[path = "namespaces/scan_kinds.rs"]
mod scan_kinds;
#[path = "namespaces/scan_programs.rs"]
mod scan_programs;
#[path = "namespaces/scans.rs"]
mod scans;
#[path = "namespaces/schedules.rs"]
mod schedules;
#[path = "namespaces/shipped.rs"]
mod shipped;
#[path = "namespaces/signatures.rs"]
mod signatures;
#[path = "namespaces/spoofed.rs"]
mod spoofed;
#[path = "namespaces/support.rs"]
mod support;
#[path = "namespaces/timeline.rs"]
mod timeline;
#[path = "namespaces/tools.rs"]
mod tools;
#[path = "namespaces/traffic.rs"]
mod traffic;
#[path = "namespaces/webhook.rs"]
mod webhook;
