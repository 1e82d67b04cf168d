//! The disk as the kernel asks it.
//!
//! Guarantee: after [`Mounted::cut`] no call changes or syncs anything, until [`Mounted::power_on`].

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use trackside_log::Random;

use super::store::{Facts, Lost, SECTOR, Store};

/// Nobody but this kernel changes the disk, so that what it knows stays true.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

const BLOCK: u32 = 4096;
/// 1 TiB, all of it free: a full disk is another row's.
const BLOCKS: u64 = 1 << 28;
const NAME_MAX: u32 = 255;
const HANDLE: FileHandle = FileHandle(0);

#[derive(Debug, Default)]
struct State {
    store: Store,
    dead: bool,
}

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounted(Arc<Mutex<State>>);

impl Mounted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing succeeds any more.
    pub(super) fn cut(&self) {
        self.state().dead = true;
    }

    /// Loses what nobody synced, or a part of it.
    pub(super) fn power_on(&self, random: &mut Random) -> Lost {
        let mut state = self.state();
        state.dead = false;
        state.store.power_on(random)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Store) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.state();
        if state.dead { Err(Errno::EIO) } else { act(&mut state.store) }
    }

    fn empty(&self, reply: ReplyEmpty, act: impl FnOnce(&mut Store) -> Result<(), Errno>) {
        match self.with(act) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn entry(&self, reply: ReplyEntry, act: impl FnOnce(&mut Store) -> Result<u64, Errno>) {
        match self.with(|store| act(store).and_then(|node| store.facts(node))) {
            Ok(facts) => reply.entry(&KNOWN_FOR, &attributes(facts), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn attributes(&self, reply: ReplyAttr, act: impl FnOnce(&mut Store) -> Result<u64, Errno>) {
        match self.with(|store| act(store).and_then(|node| store.facts(node))) {
            Ok(facts) => reply.attr(&KNOWN_FOR, &attributes(facts)),
            Err(error) => reply.error(error),
        }
    }
}

fn attributes(facts: Facts) -> FileAttr {
    FileAttr {
        ino: INodeNo(facts.node),
        size: facts.len,
        blocks: facts.len.div_ceil(SECTOR),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(facts.directory),
        perm: facts.mode,
        nlink: if facts.directory { 2 } else { 1 },
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn kind(directory: bool) -> FileType {
    if directory { FileType::Directory } else { FileType::RegularFile }
}

fn permissions(mode: u32, umask: u32) -> u16 {
    (mode & !umask & 0o7777) as u16
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |store| store.find(parent.0, name));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attributes(reply, |_| Ok(node.0));
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.attributes(reply, |store| {
            size.map_or(Ok(()), |size| store.resize(node.0, size))?;
            mode.map_or(Ok(()), |mode| store.chmod(node.0, permissions(mode, 0)))?;
            Ok(node.0)
        });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.entry(reply, |store| store.make(parent.0, name, permissions(mode, umask), true));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let made = self.with(|store| {
            let node = store.make(parent.0, name, permissions(mode, umask), false)?;
            store.facts(node)
        });
        match made {
            Ok(facts) => {
                reply.created(&KNOWN_FOR, &attributes(facts), Generation(0), HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    /// Opening drops nothing that the kernel knows: a page may be mapped in another process.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |store| store.remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |store| store.remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |store| {
            let taken = flags.contains(RenameFlags::RENAME_NOREPLACE) && store.find(new_parent.0, new_name).is_ok();
            if taken {
                return Err(Errno::EEXIST);
            }
            store.rename((parent.0, name), (new_parent.0, new_name))
        });
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        at: u64,
        count: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|store| store.read(node.0, at, count as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(|store| store.write(node.0, at, bytes)) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(&self, _: &Request, node: INodeNo, _: FileHandle, at: u64, count: u64, mode: i32, reply: ReplyEmpty) {
        self.empty(reply, |store| {
            if mode != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            let len = store.facts(node.0)?.len;
            store.resize(node.0, len.max(at + count))
        });
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, |store| store.sync_file(node.0));
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, |store| store.sync_dir(node.0));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|store| {
            let named = store.list(node.0)?.into_iter();
            let mut listed =
                named.map(|(name, node)| Ok((name, store.facts(node)?))).collect::<Result<Vec<_>, Errno>>()?;
            listed.sort_unstable_by_key(|(_, facts)| facts.node);
            Ok(listed)
        });
        match listed {
            Ok(listed) => {
                // By number, which no other file ever gets: what is removed meanwhile moves nothing else.
                for (name, facts) in listed.into_iter().filter(|(_, facts)| facts.node > from) {
                    if reply.add(INodeNo(facts.node), facts.node, kind(facts.directory), name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, u64::from(u32::MAX), u64::from(u32::MAX), BLOCK, NAME_MAX, BLOCK);
    }
}
