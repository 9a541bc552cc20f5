//! The suite on backends that are broken on purpose: each violation of the contract is caught, and
//! by the case that is about it.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use propagation_conformance::{CaseOutcome, Suite};
use propagation_core::fake::{FakeBackend, Sabotage};
use propagation_core::plan::Repair;

/// What has to happen happens at once on the fake; this is what one that waits in vain costs.
const SOON: Duration = Duration::from_millis(400);

/// Long enough for every case that ends, on a busy machine; one that waits for ever costs this.
const CASE_DEADLINE: Duration = Duration::from_secs(4);

/// Which sabotage was caught by which cases.
type Caught = Arc<Mutex<Vec<(Sabotage, Vec<String>)>>>;

/// The case that is about what a sabotage breaks.
fn aimed_at(sabotage: Sabotage) -> Option<String> {
    let case = match sabotage {
        Sabotage::Fault(fault) => return Some(format!("declared::fault_{}", fault.name())),
        Sabotage::Repair(repair) => return Some(format!("declared::repair_{}", repair.name())),
        Sabotage::Access(access) => return Some(format!("declared::access_{}", access.as_str())),
        Sabotage::CapabilitiesChange => "lifecycle::name_and_capabilities_never_change",
        Sabotage::FactsChange => "lifecycle::facts_are_stable_and_reading_them_changes_nothing",
        Sabotage::ApplyNotIdempotent => "changes::a_change_is_made_once",
        Sabotage::UndoNotIdempotent => "changes::a_change_is_taken_back_once",
        Sabotage::UndoRemovesWhatWasThere => "changes::what_was_there_before_stays",
        Sabotage::UndoIgnoresUse => "changes::a_directory_in_use_is_not_removed",
        Sabotage::StartStopsAtFirstRefusal => {
            "lifecycle::one_refusal_keeps_nobody_else_from_starting"
        }
        Sabotage::StartMixesUpResults => "lifecycle::every_spec_gets_its_result_in_order",
        Sabotage::AcceptsNameInUse => "lifecycle::a_name_in_use_is_refused",
        Sabotage::AcceptsUnknownActors => "observation::unknown_actors_are_errors",
        Sabotage::DropsSecondUid | Sabotage::WrongOrderOfObservations => {
            "observation::observations_keep_the_order_of_actors_and_users"
        }
        Sabotage::LiesAboutFresh => "recovery::a_restarted_producer_serves_the_new_generation",
        Sabotage::IgnoresNonce => "observation::the_nonce_decides",
        Sabotage::ControlSeesMount => "propagation::private_volumes_receive_nothing_later",
        Sabotage::SlavesMissMounts => "propagation::slaves_receive_it_whenever_they_started",
        Sabotage::NeverBreaks | Sabotage::HidesDeadMounts => {
            "failure::a_killed_producer_is_enotconn_for_all_but_the_control"
        }
        Sabotage::AbsentLooksDead => "failure::a_terminated_producer_unmounts_and_exits",
        Sabotage::LetsEverybodyIn => "observation::users_are_let_in_or_kept_out",
        Sabotage::BlocksOnHang => "failure::a_stopped_producer_hangs_and_nobody_waits_longer",
        Sabotage::TimesFromAnotherClock => "observation::times_lie_within_the_run",
        Sabotage::ShowsTheNodesMount => "observation::a_view_is_what_the_mount_table_says",
        Sabotage::ShowsTheNodesTable => "propagation::groups_are_those_of_the_modes",
        Sabotage::ReplicasShareOneView => "propagation::replicas_are_views_of_their_own",
        Sabotage::LosesReports | Sabotage::RepeatsReports => {
            "programs::reports_are_handed_over_once_in_the_order_of_their_times"
        }
        Sabotage::RebindDoesNothing => "recovery::re_binding_in_a_consumer_heals_it",
        Sabotage::CloseLeavesWorkloads => "cleanup::closing_ends_every_workload",
        Sabotage::CloseNotIdempotent => "cleanup::closing_twice_is_closing_once",
        Sabotage::BreaksWhenDropped => "cleanup::dropped_futures_leave_the_node_usable",
        Sabotage::WaitIgnoresDeadline => "programs::waiting_ends_at_the_deadline",
        Sabotage::WaitMissesTheEnd => "programs::waiting_ends_with_the_program",
        Sabotage::WaitGivesUpAtOnce => "programs::waiting_ends_when_it_happens",
        Sabotage::InjectsIntoTheDead => "failure::a_fault_on_what_has_ended_is_refused",
        Sabotage::InjectDoesNothing => "failure::consumers_notice_and_go_on_running",
        Sabotage::RestartKeepsOldMarker => "recovery::a_producer_that_serves_can_be_restarted",
        Sabotage::RestartDoesNothing => "recovery::a_restarted_consumer_binds_anew",
        Sabotage::StopNotIdempotent | Sabotage::StopDoesNothing => {
            "cleanup::stopping_twice_is_stopping_once"
        }
        Sabotage::LogsNothing => "programs::logs_tell_what_programs_did",
        Sabotage::HeldDescriptorRecovers => "failure::held_descriptors_stay_with_the_old_mount",
        _ => return None,
    };
    Some(case.to_owned())
}

/// Those of the contract, and one for everything that the model declares and a node is asked for.
fn sabotages() -> impl Iterator<Item = Sabotage> {
    let can = FakeBackend::modelled();
    let repairs = can.repairs.into_iter().filter(|repair| *repair != Repair::Wait);
    let written = Sabotage::WRITTEN.iter().copied();
    let faults = can.faults.into_iter().map(Sabotage::Fault);
    written
        .chain(faults)
        .chain(repairs.map(Sabotage::Repair))
        .chain(can.accesses.into_iter().map(Sabotage::Access))
}

/// The cases that fail on a backend.
fn failed(backend: FakeBackend) -> Vec<(String, String)> {
    let suite = Suite::new(backend).with_soon(SOON).with_case_deadline(CASE_DEADLINE);
    let failed = suite.outcomes().into_iter().filter_map(|(case, outcome)| match outcome {
        CaseOutcome::Failed(words) => Some((case, words)),
        CaseOutcome::Passed | CaseOutcome::Skipped(_) => None,
    });
    failed.collect()
}

/// Without a sabotage nothing fails: what the others fail of is theirs.
fn honest() -> Trial {
    Trial::test("sabotage::none", || match &failed(FakeBackend::default())[..] {
        [] => Ok(()),
        some => Err(Failed::from(format!("{some:?}"))),
    })
}

fn trial(sabotage: Sabotage, caught: &Caught) -> Trial {
    let caught = Arc::clone(caught);
    Trial::test(format!("sabotage::{sabotage}"), move || {
        let Some(aim) = aimed_at(sabotage) else {
            return Err(Failed::from("no case is said to be about it"));
        };
        let broken = FakeBackend::default().with_sabotage(sabotage);
        // One that breaks a single fault, repair or access has a case of its own.
        let cases: Vec<String> = match sabotage {
            Sabotage::Fault(_) | Sabotage::Repair(_) | Sabotage::Access(_) => {
                let suite = Suite::new(broken).with_soon(SOON).with_case_deadline(CASE_DEADLINE);
                let fails = matches!(suite.outcome(&aim), Some(CaseOutcome::Failed(_)));
                fails.then(|| aim.clone()).into_iter().collect()
            }
            _ => failed(broken).into_iter().map(|(case, _)| case).collect(),
        };
        if !cases.contains(&aim) {
            return Err(Failed::from(format!("{aim} does not notice it, but {cases:?} do")));
        }
        caught.lock().unwrap_or_else(PoisonError::into_inner).push((sabotage, cases));
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the table is this test's result")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait more than they work.
    arguments.test_threads.get_or_insert(8);
    let caught = Caught::default();
    let mut trials = vec![honest()];
    trials.extend(sabotages().map(|sabotage| trial(sabotage, &caught)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let caught = caught.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for sabotage in sabotages() {
        if let Some((_, cases)) = caught.iter().find(|(other, _)| *other == sabotage) {
            let aim = aimed_at(sabotage).unwrap_or_default();
            println!("{:<26} caught by {aim}, and {} more", sabotage.to_string(), cases.len() - 1);
        }
    }
    conclusion.exit_code()
}
