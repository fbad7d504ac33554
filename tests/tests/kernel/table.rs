//! The hand-written table through the real programs: reason, action, rule, counters.

use anyhow::{Result, ensure};
use edgefilter_tests::oracle::case::Direction;
use edgefilter_tests::oracle::table;
use edgefilter_tests::test_run::{Filter, can_run, replay, replay::describe};

#[test]
fn every_case_of_the_table_is_judged_as_written() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = Filter::load()?;
    let (mut judged, mut wrong, mut too_old, mut left_out) = (0, Vec::new(), Vec::new(), 0);
    for case in table::cases() {
        let replay = replay(&mut filter, &case)?;
        judged += replay.judged;
        left_out += replay.refused;
        if replay.too_old {
            too_old.push(case.description.clone());
        }
        if let Some(found) = &replay.disagreement {
            wrong.push(format!("{}\n{}", case.description, describe(&case, found)));
        }
    }
    eprintln!(
        "{judged} frames judged; {left_out} left out: shorter than an Ethernet header, which the kernel refuses"
    );
    for description in &too_old {
        eprintln!("not replayed, it needs a machine that has been up for longer: {description}");
    }
    ensure!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    ensure!(judged > 150, "only {judged} frames were judged");
    Ok(())
}

#[test]
fn a_judged_frame_is_not_changed() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = Filter::load()?;
    for case in table::cases() {
        filter.push(&case.policy, &case.world)?;
        for step in &case.steps {
            if step.direction == Direction::Ingress
                && step.interface == "lo"
                && step.frame.len() > 14
            {
                filter.ingress_unchanged(&step.frame)?;
            }
        }
    }
    filter.settle()
}
