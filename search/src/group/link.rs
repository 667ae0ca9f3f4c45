//! The C++ in `native/group.cpp`: c10d.

use std::ffi::{CString, c_char};
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs as _, UdpSocket};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

use super::launch::Launch;
use super::meeting::{Board, meet};
use crate::native::message;

#[repr(C)]
struct COfGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct COfWork {
    _opaque: [u8; 0],
}

#[repr(C)]
struct COfStore {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn fleetfoot_store_open(
        host: *const c_char,
        port: u16,
        hosts: bool,
        size: i32,
        timeout_ms: i64,
        out: *mut *mut COfStore,
    ) -> *mut c_char;
    fn fleetfoot_store_close(store: *mut COfStore);
    fn fleetfoot_store_set(store: *mut COfStore, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn fleetfoot_store_get(store: *mut COfStore, key: *const c_char, out: *mut *mut c_char) -> *mut c_char;
    fn fleetfoot_group_join(
        store: *mut COfStore,
        prefix: *const c_char,
        rank: i32,
        size: i32,
        timeout_ms: i64,
        by_nccl: bool,
        interface: *const c_char,
        address: *const c_char,
        out: *mut *mut COfGroup,
    ) -> *mut c_char;
    fn fleetfoot_group_leave(group: *mut COfGroup);
    fn fleetfoot_group_sum(group: *mut COfGroup, tensor: *const C_tensor, out: *mut *mut COfWork) -> *mut c_char;
    fn fleetfoot_work_finish(work: *mut COfWork) -> *mut c_char;
    fn fleetfoot_group_broadcast(group: *mut COfGroup, tensor: *const C_tensor) -> *mut c_char;
}

/// The variable by which PyTorch's users name the network that Gloo takes.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";

/// A connection to all other ranks.
#[derive(Debug)]
pub struct Link {
    group: Mutex<Handle>,
    /// Whether anything failed.
    broken: Arc<AtomicBool>,
}

/// What the other side made.
#[derive(Debug)]
struct Handle(*mut COfGroup);

// SAFETY: c10d's backends may be called from any thread, from one at a time.
unsafe impl Send for Handle {}

impl Link {
    /// Waits for the others; what went wrong, where they don't come. Besides, whether others met here before.
    pub fn join(launch: &Launch, by_nccl: bool, timeout: Duration) -> Result<(Self, bool), String> {
        let rendezvous = &launch.rendezvous;
        let interface = std::env::var(INTERFACE).unwrap_or_default();
        let address =
            if interface.is_empty() { own_address(&rendezvous.host, rendezvous.port)? } else { String::new() };
        let store = OpenStore::open(launch, timeout)?;
        let (session, again) = meet(&store, launch, timeout)?;
        let (prefix, interface, address) = (c_text(&session)?, c_text(&interface)?, c_text(&address)?);
        let mut group = null_mut();
        // SAFETY: the store and all texts live as long as the call; `group` has room for a pointer.
        check(unsafe {
            fleetfoot_group_join(
                store.0,
                prefix.as_ptr(),
                launch.rank as i32,
                launch.size as i32,
                milliseconds(timeout),
                by_nccl,
                interface.as_ptr(),
                address.as_ptr(),
                &raw mut group,
            )
        })?;
        Ok((Self { group: Mutex::new(Handle(group)), broken: Arc::default() }, again))
    }

    /// Starts to add up a tensor of all ranks, in place: dense, of one dimension.
    pub fn sum(&self, tensor: &Tensor) -> Result<Work, String> {
        let mut work = null_mut();
        let group = self.group();
        // SAFETY: the group lives; the other side shares the tensor; `work` has room for a pointer.
        checked(unsafe { fleetfoot_group_sum(group.0, tensor.as_ptr(), &raw mut work) }, &self.broken)?;
        Ok(Work { work, broken: Arc::clone(&self.broken) })
    }

    /// Copies rank 0's tensor into everybody's.
    pub fn broadcast(&self, tensor: &Tensor) -> Result<(), String> {
        let group = self.group();
        // SAFETY: group and tensor live as long as the call.
        checked(unsafe { fleetfoot_group_broadcast(group.0, tensor.as_ptr()) }, &self.broken)
    }

    fn group(&self) -> MutexGuard<'_, Handle> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Behind an error, threads of c10d's may still wait for a peer that never answers: they end with the process.
        if !self.broken.load(Ordering::Relaxed) {
            // SAFETY: it was made by the other side and is given back once.
            unsafe { fleetfoot_group_leave(self.group().0) }
        }
    }
}

/// Something under way. If nobody waits for it, it is finished when it goes.
#[derive(Debug)]
pub struct Work {
    work: *mut COfWork,
    broken: Arc<AtomicBool>,
}

impl Work {
    /// Waits for it.
    pub fn finish(mut self) -> Result<(), String> {
        let work = std::mem::replace(&mut self.work, null_mut());
        // SAFETY: it was made by the other side and is given back once.
        checked(unsafe { fleetfoot_work_finish(work) }, &self.broken)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Behind an error it might be waited for until the timeout, or for ever.
        if !self.work.is_null() && !self.broken.load(Ordering::Relaxed) {
            // SAFETY: as above. What it says, nobody waits for.
            let _ = checked(unsafe { fleetfoot_work_finish(self.work) }, &self.broken);
        }
    }
}

fn checked(said: *mut c_char, broken: &AtomicBool) -> Result<(), String> {
    check(said).inspect_err(|_| broken.store(true, Ordering::Relaxed))
}

fn c_text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("'{text}' holds a zero byte"))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Where ranks leave word for each other.
#[derive(Debug)]
struct OpenStore(*mut COfStore);

impl OpenStore {
    fn open(launch: &Launch, timeout: Duration) -> Result<Self, String> {
        let rendezvous = &launch.rendezvous;
        let host = c_text(&rendezvous.host)?;
        let hosts = rendezvous.hosted && launch.rank == 0;
        let mut store = null_mut();
        // SAFETY: the text lives as long as the call; `store` has room for a pointer.
        check(unsafe {
            let (size, timeout) = (launch.size as i32, milliseconds(timeout));
            fleetfoot_store_open(host.as_ptr(), rendezvous.port, hosts, size, timeout, &raw mut store)
        })?;
        Ok(Self(store))
    }
}

impl Board for OpenStore {
    fn set(&self, key: &str, value: &str) -> Result<(), String> {
        let (key, value) = (c_text(key)?, c_text(value)?);
        // SAFETY: the store and the texts live as long as the call.
        check(unsafe { fleetfoot_store_set(self.0, key.as_ptr(), value.as_ptr()) })
    }

    fn get(&self, key: &str) -> Result<Option<String>, String> {
        let key = c_text(key)?;
        let mut value = null_mut();
        // SAFETY: the store and the text live as long as the call; `value` has room for a pointer.
        check(unsafe { fleetfoot_store_get(self.0, key.as_ptr(), &raw mut value) })?;
        Ok(message(value))
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        // SAFETY: it was made by the other side and is given back once; a group keeps what it needs of it.
        unsafe { fleetfoot_store_close(self.0) }
    }
}

/// The message as an error, if there is one: its first line, without the places in c10d's sources.
fn check(said: *mut c_char) -> Result<(), String> {
    let Some(text) = message(said) else { return Ok(()) };
    let line = text.lines().next().unwrap_or_default();
    // "[…/gloo/transport/tcp/pair.cc:547] Connection closed by peer"
    let line = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, rest)) if place.contains(".cc:") || place.contains(".cpp:") || place.contains(".h:") => rest,
        _ => line,
    };
    let line = line.split(" This is typically ").next().unwrap_or_default();
    Err(line.trim_end_matches(['.', '!', ' ']).to_owned())
}

/// The address of the network by which this machine reaches rank 0's, where others then reach it. Its name may resolve to
/// an address that only itself can reach.
fn own_address(host: &str, port: u16) -> Result<String, String> {
    let unreachable = |error: std::io::Error| {
        format!("{host} can't be reached ({error}): is MASTER_ADDR right? {INTERFACE} names the network to take")
    };
    let mut error = std::io::Error::other("its name stands for no address");
    for peer in (host, port.max(1)).to_socket_addrs().map_err(unreachable)? {
        let any: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        // Nothing is sent: the system only says by which address it would be.
        let found =
            UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(peer).and_then(|()| socket.local_addr()));
        match found {
            Ok(address) => return Ok(address.ip().to_string()),
            Err(refused) => error = refused,
        }
    }
    Err(unreachable(error))
}
