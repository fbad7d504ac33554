//! Loading again: counters and flows go on, tables of another shape or size are not adopted.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, MapData};
use edgefilter_tests::netns::Scratch;
use edgefilter_tests::packets::{Ipv4, Tcp, Udp, link};
use edgefilter_tests::random::world;
use edgefilter_tests::test_run::filter::assignments;
use edgefilter_tests::test_run::{Filter, can_run, place::Place};
use filter_user::compile::{Compiled, HostFacts, RuleSlots, compile};
use filter_user::dataplane::test_run::{TestRun, test_run};
use filter_user::dataplane::{
    Dataplane, LoadError, Pins, PolicyMark, PushError, Sizes, XdpProgram, counters,
};
use filter_user::policy::{self, Active, Policy};

use crate::{CLOSED, OWN, REMOTE, WEB, filter};

const FLOWS: u32 = 4096;
const NOTHING: Sizes = Sizes {
    cells4: 0,
    cells6: 0,
    matrix: 0,
};

struct Ground {
    pins: Pins,
    bpffs: PathBuf,
    scratch: Scratch,
}

fn ground() -> Result<Ground> {
    Place::enter()?;
    let scratch = Scratch::create("pins")?;
    let bpffs = scratch.mount_bpffs()?;
    Ok(Ground {
        pins: Pins::prepare(&bpffs)?,
        bpffs,
        scratch,
    })
}

impl Ground {
    fn compile(&self, text: &str, slots: &mut RuleSlots) -> Result<(Policy, Compiled)> {
        let path = self.scratch.file("policy.toml", text)?;
        let policy = policy::load(&path)
            .map_err(|errors| anyhow::anyhow!("{errors}"))?
            .policy;
        let world = world();
        let compiled = compile(
            &policy,
            &Active::default(),
            &HostFacts {
                own_v4: world.own_v4,
                own_v6: world.own_v6,
                ..HostFacts::default()
            },
            slots,
        )?;
        Ok((policy, compiled))
    }

    fn names(&self, directory: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.bpffs.join("edgefilter").join(directory))?;
        let mut names: Vec<String> = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// The pin of a state map.
    fn state(&self, name: &str) -> Result<PathBuf> {
        let names = self.names("state")?;
        let file = names
            .iter()
            .find(|file| file.starts_with(&format!("{name}-")))
            .context("no such pin")?;
        Ok(self.bpffs.join("edgefilter/state").join(file))
    }
}

fn run(dataplane: &mut Dataplane, port: u16) -> Result<()> {
    use std::os::fd::AsFd;
    let frame = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(40_000, port)));
    let program = dataplane
        .xdp(XdpProgram::In)?
        .fd()?
        .as_fd()
        .try_clone_to_owned()?;
    test_run(program.as_fd(), TestRun::once(&frame))?;
    Ok(())
}

fn packets(pins: &Pins, rule: &str) -> Result<u64> {
    let counters = counters::read(pins)?;
    Ok(counters
        .rules
        .iter()
        .find(|counted| counted.id == rule)
        .context("no such rule")?
        .packets)
}

#[test]
fn a_rule_keeps_its_counters_when_all_is_loaded_again_and_moves_in_the_file() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let ground = ground()?;
    let rule = |id: &str, port: u16| {
        format!("[[profiles.edge.allow]]\nid = \"{id}\"\nprotocol = \"tcp\"\nports = [{port}]\n")
    };
    let before = format!("{CLOSED}{}{}", rule("web", 443), rule("ssh", 22));
    let after = format!(
        "{CLOSED}{}{}{}",
        rule("new", 25),
        rule("ssh", 22),
        rule("web", 443)
    );
    for (text, web, ssh) in [(&before, 5, 1), (&after, 2, 4)] {
        // a daemon that knows nothing but the pins
        let mut dataplane = Dataplane::load(&ground.pins, NOTHING, FLOWS)?;
        let known = counters::known_rules(&ground.pins)?
            .into_iter()
            .map(|(slot, id, _)| (id, slot));
        let mut slots = RuleSlots::known(known);
        let (policy, compiled) = ground.compile(text, &mut slots)?;
        counters::zero_rules(&ground.pins, &slots.take_fresh())?;
        counters::label_rules(
            &ground.pins,
            slots.iter().map(|(id, slot)| (slot, id, "edge")),
        )?;
        dataplane.push(&compiled, &assignments(&policy), PolicyMark::default())?;
        (0..web).try_for_each(|_| run(&mut dataplane, 443))?;
        (0..ssh).try_for_each(|_| run(&mut dataplane, 22))?;
    }
    ensure!(
        packets(&ground.pins, "web")? == 7,
        "web: {}",
        packets(&ground.pins, "web")?
    );
    ensure!(
        packets(&ground.pins, "ssh")? == 5,
        "ssh: {}",
        packets(&ground.pins, "ssh")?
    );
    ensure!(
        packets(&ground.pins, "new")? == 0,
        "new: {}",
        packets(&ground.pins, "new")?
    );
    Ok(())
}

#[test]
fn flows_and_the_policy_in_force_survive_a_reload() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    filter.egress(&link().ipv4(&Ipv4::new(OWN, REMOTE).with(&Udp::new(50_000, 53))))?;
    let generation = filter.dataplane().generation()?;
    let pins = filter.pins().clone();
    let mut again = Dataplane::load(&pins, NOTHING, FLOWS)?;
    ensure!(again.generation()? == generation, "another generation");
    run(&mut again, 443)?;
    filter.forgive()?;
    ensure!(filter.rule_packets("https")? == 1, "the rule counts on");
    let answer = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Udp::new(53, 50_000)));
    ensure!(
        filter.ingress(&answer)?.reason.name() == "pass_reply",
        "the flow"
    );
    Ok(())
}

/// Thousands of prefixes far apart: more cells than the smallest tables hold.
fn large() -> String {
    let prefixes: Vec<String> = (0..20_000_u32)
        .map(|number| {
            format!(
                "\"{}/32\"",
                std::net::Ipv4Addr::from(0x0100_0000 + number * 150_000)
            )
        })
        .collect();
    format!(
        "version = 1\n[groups.many]\ncidrs = [{}]\n{}",
        prefixes.join(","),
        WEB.replace("version = 1\n", "")
            .replace("ports = [443]", "ports = [443]\nfrom = [\"@many\"]")
    )
}

#[test]
fn a_policy_too_large_for_its_tables_is_refused_with_the_sizes_it_needs() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let ground = ground()?;
    let mut dataplane = Dataplane::load(&ground.pins, NOTHING, FLOWS)?;
    let mut slots = RuleSlots::default();
    let (policy, small) = ground.compile(WEB, &mut slots)?;
    dataplane.push(&small, &assignments(&policy), PolicyMark::default())?;
    let generation = dataplane.generation()?;

    let (policy, compiled) = ground.compile(&large(), &mut slots)?;
    let needed = match dataplane.push(&compiled, &assignments(&policy), PolicyMark::default()) {
        Err(PushError::TooLarge(needed)) => needed,
        other => anyhow::bail!("20,000 prefixes in a small table: {other:?}"),
    };
    ensure!(needed == Sizes::needed(&compiled)?, "{needed:?}");
    ensure!(
        dataplane.generation()? == generation,
        "the policy in force changed"
    );
    run(&mut dataplane, 443)?;

    let sets = ground.names("")?;
    let mut larger = Dataplane::load(&ground.pins, needed, FLOWS)?;
    let beside = ground.names("")?;
    ensure!(
        beside.len() == sets.len() + 1,
        "a new set beside the old one: {beside:?}"
    );
    larger.push(&compiled, &assignments(&policy), PolicyMark::default())?;
    larger.retire_others()?;
    ensure!(
        ground.names("")?.len() == sets.len(),
        "the old set is retired: {:?}",
        ground.names("")?
    );
    Ok(())
}

/// A map under the right name, with values of another size, must not become the filter's.
#[test]
fn a_pinned_map_of_another_shape_is_not_adopted() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for name in ["FLOWS", "FRAGMENTS"] {
        let ground = ground()?;
        drop(Dataplane::load(&ground.pins, NOTHING, FLOWS)?);
        let pin = ground.state(name)?;
        fs::remove_file(&pin)?;
        // Larger in key and value: the verifier alone would take it.
        let foreign = HashMap::<MapData, [u8; 96], [u64; 16]>::create(64, 0)?;
        foreign.pin(&pin)?;
        match Dataplane::load(&ground.pins, NOTHING, FLOWS) {
            Err(LoadError::Shape { path }) => ensure!(path == pin, "{} is named", path.display()),
            Err(other) => bail!("{name}: refused for another reason: {other:#}"),
            Ok(_) => bail!("{name}: a map of another shape was adopted"),
        }
    }
    Ok(())
}

/// An upgrade with another layout: its name differs, so the old one is left alone, then retired.
#[test]
fn a_map_of_another_layout_is_left_alone() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let ground = ground()?;
    let old = ground.bpffs.join("edgefilter/state/FLOWS-0123456789abcdef");
    HashMap::<MapData, u32, u32>::create(16, 0)?.pin(&old)?;
    let dataplane = Dataplane::load(&ground.pins, NOTHING, FLOWS)?;
    ensure!(old.exists(), "removed before everything is attached");
    dataplane.retire_others()?;
    ensure!(!old.exists(), "kept although no program refers to it");
    Ok(())
}

#[test]
fn a_set_that_a_killed_daemon_left_half_made_is_thrown_away() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let ground = ground()?;
    drop(Dataplane::load(&ground.pins, NOTHING, FLOWS)?);
    let set = ground
        .names("")?
        .into_iter()
        .find(|name| name.starts_with("policy-"))
        .context("no set")?;
    let set = ground.bpffs.join("edgefilter").join(set);
    fs::remove_file(set.join("MATRIX"))?;
    let mut filter = Dataplane::load(&ground.pins, NOTHING, FLOWS)?;
    let (policy, compiled) = ground.compile(WEB, &mut RuleSlots::default())?;
    filter.push(&compiled, &assignments(&policy), PolicyMark::default())?;
    run(&mut filter, 443)
}

#[test]
fn two_filters_do_not_share_anything() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let (mut one, mut other) = (filter(WEB)?, Filter::load()?);
    let frame = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(40_000, 443)));
    ensure!(
        one.ingress(&frame)?.reason.name() == "pass_rule",
        "with a policy"
    );
    ensure!(
        other.ingress(&frame)?.reason.name() == "pass_unmanaged",
        "without"
    );
    one.settle()
}
