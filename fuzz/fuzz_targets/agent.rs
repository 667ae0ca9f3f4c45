//! What host and agent say to each other: an agent's loop on any bytes, and replies as a host reads them.

#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use fleetfoot_protocol::{
    Engine, EngineError, Folder, FrameError, Health, Machine, Placement, Profiled, Reply, Request, Setup, Timed,
    Timing, read_message, serve, write_message,
};
use libfuzzer_sys::fuzz_target;

/// Does what it is asked, at once.
struct Obliging;

impl Engine for Obliging {
    fn open(&mut self, _: &Setup) -> Result<(String, String, Vec<usize>, Machine), EngineError> {
        Ok((String::new(), String::new(), Vec::new(), Machine::default()))
    }

    fn load(&mut self, _: u32, _: &[u8]) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
        Ok((vec![1], vec![1]))
    }

    fn unload(&mut self, _: u32) -> Result<(), EngineError> {
        Ok(())
    }

    fn time(&mut self, _: u32, _: &Timing) -> Result<Timed, EngineError> {
        Ok(Timed::default())
    }

    fn place(&mut self, _: &[u8]) -> Result<Placement, EngineError> {
        Err(EngineError("no".to_owned()))
    }

    fn nodes(&mut self, _: &[u8], _: u32) -> Result<Profiled, EngineError> {
        Ok(Profiled::default())
    }

    fn available_bytes(&self) -> Option<u64> {
        None
    }

    fn look(&mut self) -> Health {
        Health::default()
    }

    fn run(&mut self, _: u32, dims: &[usize], input: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        Ok((dims.to_vec(), input.to_vec()))
    }
}

/// What it keeps lies in a folder of this process.
static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("fleetfoot-fuzz-agent-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder");
    Folder::new(path)
});

fuzz_target!(|bytes: &[u8]| {
    let mut replies = Vec::new();
    let served = serve(&mut Cursor::new(bytes), &mut replies, &mut Obliging, Some(&FOLDER));
    let mut from = Cursor::new(replies.as_slice());
    loop {
        match read_message::<Reply>(&mut from) {
            Ok(_) => {}
            Err(FrameError::Closed) => break,
            Err(error) => panic!("its replies are messages: {error}"),
        }
    }
    drop(served);
    let mut from = Cursor::new(bytes);
    while let Ok((reply, payload)) = read_message::<Reply>(&mut from) {
        let mut again = Vec::new();
        write_message(&mut again, &reply, &payload).expect("it can be written");
        assert_eq!(read_message::<Reply>(&mut Cursor::new(again)).expect("and read").0, reply);
    }
    let mut from = Cursor::new(bytes);
    while let Ok((request, payload)) = read_message::<Request>(&mut from) {
        let mut again = Vec::new();
        write_message(&mut again, &request, &payload).expect("it can be written");
        assert_eq!(read_message::<Request>(&mut Cursor::new(again)).expect("and read").0, request);
    }
});
