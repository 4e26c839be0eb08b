//! The figures of frames, as probes.

use anyhow::Result;

use super::role::{self, Turn};
use super::way::FrameWay;
use crate::probe::Probe;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The shapes that are measured: the name, its words for tables, the length of a frame, and the number of readers.
const SHAPES: [(&str, &str, usize, usize); 6] = [
    ("64KiB-1", "64 KiB to one reader", 64 * KIB, 1),
    ("1MiB-1", "1 MiB to one reader", MIB, 1),
    ("8MiB-1", "8 MiB to one reader", 8 * MIB, 1),
    ("64KiB-4", "64 KiB to four readers", 64 * KIB, 4),
    ("1MiB-4", "1 MiB to four readers", MIB, 4),
    ("8MiB-4", "8 MiB to four readers", 8 * MIB, 4),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Time,
    Faults,
    Idle,
}

struct FrameProbe<'a> {
    way: &'a dyn FrameWay,
    figure: Figure,
    name: String,
    title: String,
    size: usize,
    readers: usize,
}

/// Returns the probes of these ways.
pub(crate) fn probes(ways: &[Box<dyn FrameWay>]) -> Vec<Box<dyn Probe + '_>> {
    let mut all: Vec<Box<dyn Probe + '_>> = Vec::new();
    for way in ways {
        let way = &**way;
        for (shape, words, size, readers) in SHAPES {
            let name = format!("frames-{shape}");
            let title = format!("time of a frame of {words}, filled and read in place");
            all.push(Box::new(FrameProbe { way, figure: Figure::Time, name, title, size, readers }));
            let name = format!("frame-faults-{shape}");
            let title = format!("page faults for a frame of {words}");
            all.push(Box::new(FrameProbe { way, figure: Figure::Faults, name, title, size, readers }));
        }
        let (name, title) = ("frame-idle".to_owned(), "processor time of a reader without frames".to_owned());
        all.push(Box::new(FrameProbe { way, figure: Figure::Idle, name, title, size: 64 * KIB, readers: 1 }));
    }
    all
}

impl Probe for FrameProbe<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn title(&self) -> &str {
        &self.title
    }

    fn contender(&self) -> &str {
        self.way.name()
    }

    fn unit(&self) -> &str {
        match self.figure {
            Figure::Time => "us",
            Figure::Faults => "faults",
            Figure::Idle => "%",
        }
    }

    fn version(&self) -> String {
        self.way.version()
    }

    fn advice(&self) -> &str {
        self.way.advice()
    }

    fn measure(&self) -> Result<f64> {
        let place = role::place()?;
        let turn = Turn {
            way: self.way.name().to_owned(),
            place: place.path().to_owned(),
            size: self.size,
            readers: self.readers,
            busy: self.figure != Figure::Idle,
        };
        let figures = role::run(&turn);
        self.way.clean_up(place.path());
        let figures = figures?;
        Ok(match self.figure {
            Figure::Time => figures.micros,
            Figure::Faults => figures.faults,
            Figure::Idle => figures.idle,
        })
    }
}
