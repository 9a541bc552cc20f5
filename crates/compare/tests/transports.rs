//! Comparisons on simulated nodes: what is measured, what is left out and why, and that nothing goes on for
//! ever.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use libtest_mimic::{Arguments, Failed, Trial};
    use propagation_backend_local::LocalBackend;
    use propagation_compare::{Options, Progress, compare};
    use propagation_conformance::skip;
    use propagation_core::comparison::{
        Comparison, Healing, Metric, Skip as LeftOut, SkipKind, Transport, Workload,
    };
    use propagation_core::plan::NodeSpec;
    use propagation_core::{Error, ErrorKind};
    use tokio_util::sync::CancellationToken;

    type TestResult = Result<(), Failed>;

    /// Its name, the programs that it needs, and what it does.
    type Case = (&'static str, &'static [&'static str], fn() -> TestResult);

    pub(super) fn main() -> ExitCode {
        let mut arguments = Arguments::from_args();
        // Each has the machine's two processors for itself.
        arguments.test_threads.get_or_insert(1);
        let tests: Vec<Case> = vec![
            ("fuse_is_measured_dies_and_heals_by_its_new_mount", &[], fuse),
            ("a_daemon_that_has_died_does_not_keep_others_from_dying", &["bindfs"], died_before),
            ("smb_is_measured_dies_and_heals_by_itself", &["smbd", "rclone"], smb),
            ("smbnetfs_shows_the_share", &["smbd", "smbnetfs"], smbnetfs),
            ("passthrough_is_measured_or_says_why_not", &[], passthrough),
            ("a_daemon_of_ones_own_is_measured", &["bindfs"], daemon),
            ("every_workload_gives_its_metrics", &[], every_workload),
            ("without_programs_transports_are_left_out", &[], no_programs),
            ("kernel_mounts_are_left_out_with_the_reason", &[], kernel_mounts),
            ("fuse_below_smb_is_measured_and_dies", &["smbd", "rclone"], re_export),
            ("a_server_that_hangs_is_given_up", &["smbd", "rclone", "bindfs"], server_hangs),
            ("a_disk_that_fills_while_written_is_told", &[], full_while_written),
            ("a_port_that_is_taken_is_named", &["smbd", "bindfs", "rclone"], port_taken),
            ("a_daemon_that_never_mounts_is_left_out_in_time", &[], never_ready),
            ("a_daemon_that_ends_is_left_out_with_its_words", &[], ends),
            ("wrong_credentials_are_left_out", &["smbd", "rclone"], wrong_credentials),
            ("a_full_disk_is_an_error", &[], full_disk),
            ("a_daemon_that_hangs_is_given_up", &["bindfs"], hanging),
            ("a_consumer_in_d_state_is_given_up_and_ends", &["bindfs"], in_d_state),
            ("a_cancelled_comparison_has_what_there_was", &[], cancelled),
        ];
        let trials = tests.into_iter().map(|(name, programs, test)| {
            match programs.iter().find(|program| !installed(program)) {
                None => Trial::test(name, test),
                Some(missing) => {
                    let missing = *missing;
                    Trial::ignorable_test(name, move || skip(missing, "it is not installed"))
                }
            }
        });
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    }

    fn installed(program: &str) -> bool {
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
            .iter()
            .any(|directory| Path::new(directory).join(program).exists())
    }

    fn quick(transports: &[Transport], workloads: &[Workload]) -> Options {
        Options {
            transports: transports.into(),
            workloads: workloads.into(),
            rounds: Some(1),
            ..Options::quick()
        }
    }

    fn run_until(
        options: &Options,
        cancellation: &CancellationToken,
        tell: &(dyn Fn(Progress<'_>) + Send + Sync),
    ) -> Result<Comparison, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("an event loop");
        runtime.block_on(compare(options, &LocalBackend::new(), cancellation, tell))
    }

    fn run(options: &Options) -> Result<Comparison, Failed> {
        let comparison = run_until(options, &CancellationToken::new(), &|_| {})?;
        match comparison.cleanup.could_not.as_slice() {
            [] => Ok(comparison),
            left => Err(format!("left: {left:?}").into()),
        }
    }

    fn left_out(comparison: &Comparison, transport: Transport) -> Result<&LeftOut, Failed> {
        let found = comparison.transport(transport).and_then(|one| one.skipped.as_ref());
        found.ok_or_else(|| format!("{transport} was measured").into())
    }

    fn ensure(holds: bool, what: impl std::fmt::Debug) -> TestResult {
        if holds { Ok(()) } else { Err(format!("{what:#?}").into()) }
    }

    fn fuse() -> TestResult {
        let options = quick(&[Transport::Fuse], &[Workload::Scan, Workload::Open, Workload::Die]);
        let comparison = run(&options)?;
        let fuse = comparison.transport(Transport::Fuse).ok_or("no fuse")?;
        ensure(fuse.skipped.is_none(), &fuse.skipped)?;
        for metric in [Metric::ScanCold, Metric::ScanWarm, Metric::Open] {
            let measure = fuse.measure(metric).ok_or("not measured")?;
            ensure(measure.median.is_some() && measure.failed.is_empty(), measure)?;
            ensure(measure.server.cpu_ms > 0.0 && measure.server.peak_bytes > 0, measure.server)?;
        }
        let death = fuse.death.as_ref().ok_or("its server was not killed")?;
        let errno = death.first_error.as_ref().map(|(_, errno)| errno.as_str());
        ensure(matches!(errno, Some("ENOTCONN" | "ECONNABORTED")), death)?;
        ensure(death.healing == Healing::NewMount && !death.hangs, death)?;
        // An open file belongs to the connection that has ended.
        ensure(death.held_healed_ms.is_none(), death)
    }

    fn smb() -> TestResult {
        let options = quick(&[Transport::SmbRclone], &[Workload::Open, Workload::Die]);
        let comparison = run(&options)?;
        let smb = comparison.transport(Transport::SmbRclone).ok_or("no smb")?;
        ensure(smb.skipped.is_none(), &smb.skipped)?;
        ensure(smb.measure(Metric::Open).is_some_and(|one| one.median.is_some()), smb)?;
        let death = smb.death.as_ref().ok_or("its server was not killed")?;
        ensure(death.killed == "smbd" && death.back_ms.is_some(), death)?;
        ensure(death.healing == Healing::Reconnect, death)
    }

    fn smbnetfs() -> TestResult {
        let comparison = run(&quick(&[Transport::SmbSmbnetfs], &[Workload::Open]))?;
        let smb = comparison.transport(Transport::SmbSmbnetfs).ok_or("no smb")?;
        ensure(smb.measure(Metric::Open).is_some_and(|one| one.median.is_some()), smb)
    }

    fn passthrough() -> TestResult {
        let comparison = run(&quick(&[Transport::FusePassthrough], &[Workload::Sequential]))?;
        let found = comparison.transport(Transport::FusePassthrough).ok_or("none")?;
        match &found.skipped {
            Some(skip) => {
                let refused = skip.kind == SkipKind::NotReady
                    && skip.reason.to_lowercase().contains("passthrough");
                ensure(skip.kind == SkipKind::NotPermitted || refused, skip)
            }
            // The kernel reads: the daemon has next to nothing to do.
            None => {
                let measure = found.measure(Metric::SequentialRate).ok_or("not measured")?;
                ensure(measure.median.is_some() && measure.failed.is_empty(), measure)
            }
        }
    }

    fn daemon() -> TestResult {
        let comparison = run(&quick(&[Transport::Daemon], &[Workload::Seek]))?;
        let daemon = comparison.transport(Transport::Daemon).ok_or("none")?;
        ensure(daemon.how == ["bindfs -f /mnt/data /mnt/daemon"], &daemon.how)?;
        ensure(daemon.measure(Metric::Seek).is_some_and(|one| one.median.is_some()), daemon)
    }

    /// One that ends by itself loses what it would have given, and nothing else.
    fn died_before() -> TestResult {
        let options = Options {
            producer_command:
                "sh -c '(sleep 2; kill -KILL $$) & exec bindfs -f {source} {mountpoint}'".into(),
            ..quick(&[Transport::Daemon, Transport::Fuse], &[Workload::Play, Workload::Die])
        };
        let options = Options { rounds: Some(8), ..options };
        let comparison = run(&options)?;
        let daemon = comparison.transport(Transport::Daemon).ok_or("none")?;
        ensure(daemon.skipped.is_none() && daemon.death.is_none(), daemon)?;
        let failed = daemon.measure(Metric::FirstByte).map(|measure| measure.failed.len());
        ensure(failed > Some(0), daemon)?;
        let fuse = comparison.transport(Transport::Fuse).ok_or("no fuse")?;
        ensure(fuse.death.as_ref().is_some_and(|death| death.first_error.is_some()), fuse)
    }

    fn every_workload() -> TestResult {
        let comparison = run(&quick(&[Transport::Fuse], &Workload::ALL))?;
        for one in comparison.measured() {
            for metric in Metric::ALL {
                let measure = one.measure(metric).ok_or_else(|| format!("no {metric}"))?;
                ensure(
                    measure.median.is_some() && measure.failed.is_empty(),
                    (one.transport, measure),
                )?;
            }
        }
        ensure(comparison.noise.len() == Metric::ALL.len(), &comparison.noise)
    }

    fn no_programs() -> TestResult {
        // Containers of such a node have no /dev/null either: nothing is measured in them.
        let options = Options {
            node: NodeSpec { without_host_tools: true, ..NodeSpec::default() },
            ..quick(&[Transport::Daemon, Transport::SmbRclone], &[Workload::Die])
        };
        let comparison = run(&options)?;
        let smb = left_out(&comparison, Transport::SmbRclone)?;
        ensure(smb.kind == SkipKind::ProgramMissing && smb.reason.contains("smbd"), smb)?;
        ensure(smb.fix.as_deref() == Some("apt-get install samba"), smb)?;
        left_out(&comparison, Transport::Daemon).map(drop)
    }

    fn kernel_mounts() -> TestResult {
        let comparison = run(&quick(&[Transport::SmbCifs, Transport::Nfs], &[Workload::Open]))?;
        let known = std::fs::read_to_string("/proc/filesystems")?;
        for (transport, filesystem) in [(Transport::SmbCifs, "cifs"), (Transport::Nfs, "nfs4")] {
            let has = known.lines().any(|line| line.split_whitespace().last() == Some(filesystem));
            let found = comparison.transport(transport).ok_or("not there")?;
            match &found.skipped {
                // The module was loaded for it, or was there before.
                None => {
                    let open = found.measure(Metric::Open).and_then(|measure| measure.median);
                    ensure(open.is_some(), found)?;
                }
                Some(skip) if has => ensure(skip.kind != SkipKind::KernelLacks, skip)?,
                Some(skip) => {
                    let reason = format!("this kernel has no filesystem {filesystem}");
                    ensure(skip.kind == SkipKind::KernelLacks && skip.reason == reason, skip)?;
                }
            }
        }
        Ok(())
    }

    /// FUSE below SMB: the mount of the consumer stays, whatever becomes of the one that is served.
    fn re_export() -> TestResult {
        let comparison =
            run(&quick(&[Transport::FuseSmbRclone], &[Workload::Open, Workload::Die]))?;
        let again = comparison.transport(Transport::FuseSmbRclone).ok_or("none")?;
        ensure(again.skipped.is_none() && again.how.len() == 3, again)?;
        ensure(again.measure(Metric::Open).is_some_and(|one| one.median.is_some()), again)?;
        let death = again.death.as_ref().ok_or("its daemon was not killed")?;
        ensure(death.killed == "mirror" && death.back_ms.is_some(), death)?;
        ensure(death.first_error.is_some() && death.healing != Healing::NewMount, death)
    }

    /// A server that hangs costs its own figures and a bounded time.
    fn server_hangs() -> TestResult {
        let stops = "sh -c '(sleep 3; for p in /proc/[0-9]*; do tr \"\\0\" \" \" < $p/cmdline \
                     2> /dev/null | grep -q ^smbd && kill -STOP ${p#/proc/}; done) & \
                     exec bindfs -f {source} {mountpoint}'";
        let options = Options {
            producer_command: stops.into(),
            rounds: Some(400),
            ..quick(&[Transport::SmbRclone, Transport::Daemon], &[Workload::Open])
        };
        let began = Instant::now();
        let comparison = run(&options)?;
        let smb = comparison.transport(Transport::SmbRclone).ok_or("none")?;
        let open = smb.measure(Metric::Open).ok_or("not measured")?;
        ensure(open.gave_up >= 1 || !open.failed.is_empty(), open)?;
        let daemon = comparison.transport(Transport::Daemon).ok_or("none")?;
        ensure(daemon.measure(Metric::Open).is_some_and(|one| one.failed.is_empty()), daemon)?;
        ensure(began.elapsed() < Duration::from_secs(180), began.elapsed())
    }

    /// A disk that has room for the data set and not for what is written.
    fn full_while_written() -> TestResult {
        let options = Options {
            node: NodeSpec { disk_bytes: 22 << 20, ..NodeSpec::default() },
            ..quick(&[Transport::Fuse], &[Workload::Write, Workload::Open])
        };
        let comparison = run(&options)?;
        let fuse = comparison.transport(Transport::Fuse).ok_or("none")?;
        let write = fuse.measure(Metric::WriteRate).ok_or("not measured")?;
        ensure(write.failed.contains_key("ENOSPC") && write.median.is_none(), write)?;
        ensure(fuse.measure(Metric::Open).is_some_and(|one| one.failed.is_empty()), fuse)
    }

    fn port_taken() -> TestResult {
        // An rclone that serves on every address, for as long as the daemon beside it mounts.
        let listens = "sh -c 'rclone serve http /mnt/data --addr 0.0.0.0:445 > /dev/null 2>&1 & \
                       until rclone lsf :http: --http-url http://127.0.0.1:445 > /dev/null 2>&1; \
                       do :; done; exec bindfs -f {source} {mountpoint}'";
        let options = Options {
            producer_command: listens.into(),
            ..quick(&[Transport::Daemon, Transport::SmbRclone], &[Workload::Open])
        };
        let comparison = run(&options)?;
        let smb = left_out(&comparison, Transport::SmbRclone)?;
        ensure(smb.reason.contains("445 is in use already"), smb)
    }

    fn never_ready() -> TestResult {
        let options = Options {
            producer_command: "sleep 1000 # {mountpoint}".into(),
            ..quick(&[Transport::Daemon], &[Workload::Open])
        };
        let began = Instant::now();
        let comparison = run(&options)?;
        let skip = left_out(&comparison, Transport::Daemon)?;
        ensure(skip.kind == SkipKind::NotReady, skip)?;
        ensure(skip.reason.contains("nothing is mounted at /mnt/daemon"), skip)?;
        ensure(began.elapsed() < Duration::from_secs(60), began.elapsed())
    }

    fn ends() -> TestResult {
        let options = Options {
            producer_command: "sh -c 'echo no such remote; exit 3' {mountpoint}".into(),
            ..quick(&[Transport::Daemon], &[Workload::Open])
        };
        let comparison = run(&options)?;
        let skip = left_out(&comparison, Transport::Daemon)?;
        ensure(skip.reason.contains("ended with 3") && skip.reason.contains("no such remote"), skip)
    }

    fn wrong_credentials() -> TestResult {
        let options = Options {
            wrong_credentials: true,
            ..quick(&[Transport::SmbRclone], &[Workload::Open])
        };
        let comparison = run(&options)?;
        let skip = left_out(&comparison, Transport::SmbRclone)?;
        ensure(skip.kind == SkipKind::NotReady, skip)
    }

    fn full_disk() -> TestResult {
        let options = Options {
            node: NodeSpec { disk_bytes: 8 << 20, ..NodeSpec::default() },
            ..quick(&[Transport::Fuse], &[Workload::Open])
        };
        match run_until(&options, &CancellationToken::new(), &|_| {}) {
            Ok(comparison) => Err(format!("it had room: {:?}", comparison.data_set).into()),
            Err(error) => {
                let full = error.to_string().contains("No space left on device");
                ensure(error.kind() == ErrorKind::Environment && full, error)
            }
        }
    }

    fn hanging() -> TestResult {
        let options = Options {
            producer_command:
                "sh -c '(sleep 1; kill -STOP $$) & exec bindfs -f {source} {mountpoint}'".into(),
            ..quick(&[Transport::Daemon], &[Workload::Play, Workload::Open])
        };
        let options = Options { rounds: Some(8), ..options };
        let began = Instant::now();
        let comparison = run(&options)?;
        let daemon = comparison.transport(Transport::Daemon).ok_or("none")?;
        let gave_up: u32 = daemon.measures.iter().map(|measure| measure.gave_up).sum();
        ensure(gave_up > 1, daemon)?;
        let rounds = daemon.measures.iter().map(|measure| measure.samples.len());
        ensure(rounds.eq([8, 8]), daemon)?;
        // Each give-up takes 5 s; it is asked twice, not in every round.
        ensure(began.elapsed() < Duration::from_secs(60), began.elapsed())
    }

    /// A daemon that has read a request and waits itself: SIGKILL does not end who waits for its answer.
    fn in_d_state() -> TestResult {
        let stacked = "sh -c 'mkdir {work}/below; bindfs -f {source} {work}/below & below=$!; \
                       until mountpoint -q {work}/below; do :; done; \
                       (sleep 1; kill -STOP $below) & exec bindfs -f {work}/below {mountpoint}'";
        let options = Options {
            producer_command: stacked.into(),
            rounds: Some(8),
            ..quick(&[Transport::Daemon, Transport::Fuse], &[Workload::Play, Workload::Open])
        };
        let began = Instant::now();
        let comparison = run(&options)?;
        let daemon = comparison.transport(Transport::Daemon).ok_or("none")?;
        ensure(daemon.skipped.is_none(), daemon)?;
        let gave_up: u32 = daemon.measures.iter().map(|measure| measure.gave_up).sum();
        ensure(gave_up > 1, daemon)?;
        // Others are measured to the end beside it, and the end of the node frees it.
        let fuse = comparison.transport(Transport::Fuse).ok_or("no fuse")?;
        let samples = fuse.measures.iter().map(|measure| measure.samples.iter().flatten().count());
        ensure(samples.eq([8, 8]), fuse)?;
        ensure(began.elapsed() < Duration::from_secs(120), began.elapsed())
    }

    fn cancelled() -> TestResult {
        let cancellation = CancellationToken::new();
        let options = Options { rounds: Some(5), ..quick(&[Transport::Fuse], &[Workload::Open]) };
        let comparison = run_until(&options, &cancellation, &|progress| {
            if matches!(progress, Progress::Round(2, _)) {
                cancellation.cancel();
            }
        })?;
        ensure(comparison.cut_short && comparison.cleanup.could_not.is_empty(), &comparison)?;
        let fuse = comparison.transport(Transport::Fuse).ok_or("no fuse")?;
        let open = fuse.measure(Metric::Open).ok_or("not measured")?;
        // Of the second round at the most what was being done.
        ensure(open.median.is_some() && open.samples.len() == 1, open)
    }
}
