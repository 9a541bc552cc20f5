//! What workloads' programs report by themselves, and waiting for it.

use std::time::{Duration, Instant};

use propagation_core::ErrorKind;
use propagation_core::observation::{Actor, Outcome, Via};
use propagation_core::plan::{Fault, OTHER_UID, WorkloadSpec};
use propagation_core::program::ProgramState;
use propagation_core::workload::Until;

use super::{early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;
use propagation_core::Signal;

cases! {
    programs_tell_what_they_see,
    reports_are_handed_over_once_in_the_order_of_their_times,
    logs_tell_what_programs_did,
    a_program_runs_as_its_user needs OTHER_UIDS,
    waiting_ends_when_it_happens,
    waiting_ends_with_the_program,
    waiting_ends_at_the_deadline,
}

async fn programs_tell_what_they_see(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    let before = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    let after = stage.start_one(&late()).await?;
    let mounted_at_us = producer.status().await?.mounted_at_us;
    for consumer in [&before, &after] {
        let status = stage.until(&**consumer, Until::SeesGeneration(1)).await?;
        let name = &consumer.spec().name;
        ensure_eq!(status.program, ProgramState::Running, "the program of {name}");
        ensure_eq!(status.failure, None, "the failure of {name}");
        let Some(seen) = status.seen else {
            return Err(Failure::new(format_args!("{name} sees and has seen nothing")));
        };
        ensure_eq!(seen.actor, of(name), "who saw it");
        ensure_eq!(seen.via, Via::Watch, "how {name} saw it");
        ensure!(
            mounted_at_us.is_some_and(|mounted| mounted <= seen.at_us),
            "{name} saw it at {} µs, and the producer mounted at {mounted_at_us:?}",
            seen.at_us
        );
        let again = consumer.status().await?;
        ensure_eq!(again.seen, Some(seen), "what {name} has seen, asked again");
    }
    Ok(())
}

async fn reports_are_handed_over_once_in_the_order_of_their_times(lab: &Lab) -> Checked {
    let others: Vec<WorkloadSpec> =
        (0..4).map(|number| early().with(|spec| spec.name = format!("c{number}"))).collect();
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    let consumers = stage.start(&others).await?;
    let producer = stage.serve().await?;
    for consumer in &consumers {
        stage.until(&**consumer, Until::SeesGeneration(1)).await?;
    }
    stage.inject(&*producer, Fault::Kill).await?;
    for consumer in &consumers {
        stage.until(&**consumer, Until::SeesBreakage).await?;
    }
    let reports = stage.node.take_reports();
    ensure!(
        reports.is_sorted_by_key(|report| report.at_us),
        "reports are not in the order of their times: {:?}",
        reports.iter().map(|report| report.at_us).collect::<Vec<_>>()
    );
    for spec in &others {
        let of_it = |ok: bool| {
            let fits = |outcome: &Outcome| outcome.is_ok() == ok;
            reports.iter().any(|o| o.actor == of(&spec.name) && fits(&o.outcome))
        };
        ensure!(of_it(true) && of_it(false), "reports of {} are missing", spec.name);
    }
    let odd = reports.iter().find(|report| report.via != Via::Watch || !report.step.is_empty());
    ensure!(odd.is_none(), "a report that is not a program's own: {odd:?}");
    let again = stage.node.take_reports();
    ensure!(!again.iter().any(|report| reports.contains(report)), "handed over twice: {again:?}");
    Ok(())
}

async fn logs_tell_what_programs_did(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    stage.until(&*consumer, Until::SeesBreakage).await?;
    let log = consumer.log().await?;
    let nonce = format!("nonce={}", stage.marker(1).nonce);
    let mut rest = log.iter();
    for words in [
        "Waiting for /mnt/dfs",
        "SUCCESS: Producer marker found at ",
        nonce.as_str(),
        "[Consumer Ready]",
        "Mount is accessible",
        "ERROR: Mount became inaccessible!",
    ] {
        ensure!(
            rest.any(|line| line.contains(words)),
            "the consumer's log lacks {words:?}, or has it too early: {log:?}"
        );
    }
    stage.serve_again(&*producer, 2).await?;
    let log = producer.log().await?;
    for words in ["(generation 1)", "(generation 2)"] {
        ensure!(
            log.iter().any(|line| line.contains("Mounted") && line.contains(words)),
            "the producer's log, over its restart, lacks {words:?}: {log:?}"
        );
    }
    Ok(())
}

async fn a_program_runs_as_its_user(lab: &Lab) -> Checked {
    let spec = early().with(|spec| spec.uid = OTHER_UID);
    let stage = Stage::set(lab, lab.plan_of(std::slice::from_ref(&spec))).await?;
    let consumer = stage.start_one(&spec).await?;
    stage.serve().await?;
    let status = stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    let uid = status.seen.map(|seen| seen.uid);
    ensure_eq!(uid, Some(OTHER_UID), "the user as whom the program looked");
    Ok(())
}

async fn waiting_ends_when_it_happens(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    let fault = async {
        // The wait has to be under way.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        producer.inject(&Fault::Kill).await
    };
    let (waited, injected) = tokio::join!(consumer.wait(Until::SeesBreakage, lab.soon), fault);
    injected??;
    let status = waited?;
    ensure!(Until::SeesBreakage.is_met_by(&status), "the wait ended with {status:?}");
    let status = stage.until(&*producer, Until::Ended).await?;
    let killed = ProgramState::Signaled { signal: Signal::SIGKILL };
    ensure_eq!(status.program, killed, "the producer's program");
    Ok(())
}

async fn waiting_ends_with_the_program(lab: &Lab) -> Checked {
    const NEVER: u64 = 99;
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let started = Instant::now();
    let (waited, injected) = tokio::join!(
        consumer.wait(Until::SeesGeneration(NEVER), lab.soon),
        consumer.inject(&Fault::Kill),
    );
    injected??;
    for status in [waited?, consumer.wait(Until::SeesGeneration(NEVER), lab.soon).await?] {
        ensure!(Until::Ended.is_met_by(&status), "the wait ended, and the program has not");
        ensure!(
            !Until::SeesGeneration(NEVER).is_met_by(&status),
            "it has seen generation {NEVER}: {status:?}"
        );
    }
    ensure!(started.elapsed() < lab.soon, "the waits went on after the program had ended");
    Ok(())
}

async fn waiting_ends_at_the_deadline(lab: &Lab) -> Checked {
    const DEADLINE: Duration = Duration::from_millis(250);
    let stage = Stage::set(lab, lab.plan_of(&[WorkloadSpec::control()])).await?;
    let control = stage.start_one(&WorkloadSpec::control()).await?;
    stage.serve().await?;
    // What it saw at its start is there before it is asked what it saw last.
    stage.until(&*control, Until::SeesBreakage).await?;
    let started = Instant::now();
    let Err(error) = control.wait(Until::SeesGeneration(1), DEADLINE).await else {
        return Err(Failure::new("a control has seen the mount, or its wait ended without it"));
    };
    ensure_eq!(error.kind(), ErrorKind::Timeout, "the error of a wait that is over");
    ensure!(error.reason().contains("absent"), "it does not say what was seen last: {error}");
    ensure!(started.elapsed() < DEADLINE + lab.soon, "the wait went on after its deadline");
    stage.expect(&[(Actor::Node, Class::Ok)], 1, "after the wait").await?;
    Ok(())
}
