//! `parlour bench`: measures latency and throughput on this machine, in comparison with bare system calls.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use parlour_measure::{Amount, Chance, Measured, Placement, Runner, Size, Summary, Turn, Work, contenders, ratio};

use super::bench_html::{self, About};
use super::bench_row::{BASELINE, Row};
use crate::args::{Bench, BenchRole};
use crate::exit::{self, Failure};
use crate::output;
use crate::signals::Stop;

/// The contenders in the order of the rows.
const CONTENDERS: [&str; 5] = [BASELINE, "parlour-shm", "parlour-packet", "parlour-unix", "parlour-fifo"];

/// The duration of one turn in milliseconds.
const TURN_MS: u64 = 30;

/// The time after which no further round begins, so that a slow machine measures fewer rounds.
const LAST_ROUND_BEGINS: Duration = Duration::from_secs(30);

pub(super) fn run(args: &Bench) -> anyhow::Result<()> {
    if let Some(path) = &args.html {
        check_report(path)?;
    }
    // The signals are caught before anything is created, so that an interrupt leaves no file.
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let contenders = contenders();
    let runner = Runner::new(&contenders, &["bench-role"])?;
    let works = works();
    output::note("measuring two processes over each transport; this takes about 20 seconds");
    let turns = measure(&runner, &works, args.rounds, &stop)?;
    let rows: Vec<Row> = CONTENDERS
        .into_iter()
        .flat_map(|contender| works.iter().map(move |&work| (contender, work)))
        .map(|(contender, work)| row(&turns, contender, work))
        .collect();
    let printed = if args.json { output::json(&rows) } else { print(&rows) };
    // The report is written even if nobody reads the output.
    output::unless_closed(printed)?;
    match &args.html {
        Some(path) => {
            let rounds = turns.values().map(Vec::len).max().unwrap_or(0) as u32;
            std::fs::write(path, bench_html::report(&about(rounds), &rows)).with_context(|| writing(path))?;
            output::note(format_args!("the report is in {}", path.display()));
            Ok(())
        }
        None => Ok(()),
    }
}

fn writing(path: &Path) -> String {
    format!("writing the report {}", path.display())
}

/// Returns an error if it is clear before the measurement that the report cannot be written.
fn check_report(path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(directory.is_dir(), "{}: {} is not a directory", writing(path), directory.display());
    anyhow::ensure!(!path.is_dir(), "{}: it is a directory; give the name of a file", writing(path));
    Ok(())
}

/// Describes this machine.
fn about(rounds: u32) -> About {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + seconds).to_string();
    let models = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = models.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    About {
        version: env!("CARGO_PKG_VERSION"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        processor: model.unwrap_or("unknown processor").to_owned(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        time,
        rounds,
    }
}

/// Runs one process of the benchmark.
pub(super) fn role(args: &BenchRole) -> anyhow::Result<()> {
    parlour_measure::take(&args.role, &contenders())
}

/// Returns the kinds of work to measure.
fn works() -> Vec<Work> {
    let round_trips = [64, 4 << 10, 64 << 10, 1 << 20].map(|size| Work::RoundTrip { size });
    round_trips.into_iter().chain([64, 1 << 20].map(Work::stream_of)).collect()
}

/// The turns of each contender at each kind of work, with their rounds.
type Turns = HashMap<(&'static str, Work), Vec<(u32, Measured)>>;

fn measure(runner: &Runner<'_>, works: &[Work], rounds: u32, stop: &Stop) -> anyhow::Result<Turns> {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    let mut chance = Chance::new(seed);
    let (mut works, mut contenders) = (works.to_vec(), CONTENDERS);
    let mut turns = Turns::new();
    let begin = Instant::now();
    for round in 0..rounds.max(1) {
        if round > 0 && begin.elapsed() > LAST_ROUND_BEGINS {
            output::note(format_args!("the machine is busy or slow: stopping after {round} rounds"));
            break;
        }
        chance.shuffle(&mut works);
        for &work in &works {
            chance.shuffle(&mut contenders);
            for contender in contenders {
                let turn = Turn { work, amount: Amount::Ms(TURN_MS) };
                let measured = runner.turn(contender, turn, Placement::Unpinned);
                // Ctrl-C also ends the processes of the turn, so it is checked before the result of the turn.
                if stop.is_triggered() {
                    return Err(Failure::new(exit::OTHER, "interrupted").into());
                }
                let measured = measured.with_context(|| format!("{work} over {contender}"))?;
                turns.entry((contender, work)).or_default().push((round, measured));
            }
        }
    }
    Ok(turns)
}

fn row(turns: &Turns, contender: &'static str, work: Work) -> Row {
    let of = |contender| turns.get(&(contender, work)).map_or(&[][..], Vec::as_slice);
    let medians = |contender| of(contender).iter().map(|(round, turn)| (*round, turn.median_ns())).collect::<Vec<_>>();
    let all: Vec<Measured> = of(contender).iter().map(|(_, turn)| turn.clone()).collect();
    let Summary { best, median, p99, .. } = Summary::of(&all);
    Row {
        contender,
        work: work.kind(),
        bytes: work.size(),
        best_us: best / 1e3,
        median_us: median / 1e3,
        p99_us: p99 / 1e3,
        time_to_raw_stream: ratio(&medians(contender), &medians(BASELINE)),
    }
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let column = |row: &Row| {
        let size = Size(row.bytes);
        if row.work == "stream" { format!("{size} ONE-WAY") } else { format!("{size} ROUND TRIP") }
    };
    let of = |contender| rows.iter().filter(move |row| row.contender == contender);
    let columns: Vec<String> = of(BASELINE).map(column).collect();
    let header: Vec<&str> = std::iter::once("\u{b5}s").chain(columns.iter().map(String::as_str)).collect();
    let cell = |row: &Row| format!("{:.2} (x{:.2})", row.median_us, row.time_to_raw_stream);
    let line = |contender: &str| {
        let name = contender.strip_prefix("parlour-").unwrap_or(contender).to_owned();
        std::iter::once(name).chain(rows.iter().filter(|row| row.contender == contender).map(cell)).collect()
    };
    output::table(&header, &header[1..], CONTENDERS.into_iter().map(line).collect())?;
    output::line(
        "\nEach figure is the median time in microseconds of one round trip, or of one message in a one-way stream. The figure\n\
         in parentheses is the median ratio to raw-stream in the same round. raw-stream is a blocking UNIX socket with one\n\
         system call for each message. Other load on the machine changes the times; it changes the ratios less.",
    )
}
