//! The edgefilter daemon and command line, as a library.

pub mod access;
pub mod approval;
pub mod audit;
pub mod cli;
pub mod compile;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod durable;
pub mod entries;
pub mod explain;
pub mod exposure;
pub mod generations;
pub mod guard;
pub mod plan;
pub mod policy;
pub mod replay;
pub mod report;
pub mod scans;
pub mod settings;
