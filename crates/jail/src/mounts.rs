//! Owns the sandbox's file tree: layers, volumes, devices, and how it becomes the root. It drops no right.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};
use rustix::process::{chdir, chroot, fchdir};
use sys::{MountAttr, mount_setattr};

use crate::attached;
use crate::error::{DISK, During, IDMAP, OVERLAY, Result};
use crate::gvisor;
use crate::image;
use crate::plan::{Ground, Gvisor, PROGRAMS, Plan};
use crate::privileges::as_mapped_root;
use crate::stage::{LAYERS, Stage, TREES};

pub(crate) const BIND_USR: &str = "bind /usr";
pub(crate) const BIND_PROGRAMS: &str = "bind the operator's programs";
pub(crate) const BIND_VOLUME: &str = "bind a volume";

const STAGE: &str = "stage the root";

/// Trees taken from the host, each detached.
pub(crate) struct Trees {
    template: OwnedFd,
    /// What was sealed, uppermost first.
    sealed: Vec<OwnedFd>,
    pub(crate) usr: Option<OwnedFd>,
    pub(crate) programs: Option<OwnedFd>,
    pub(crate) attached: Vec<OwnedFd>,
}

/// Trees of the sandbox's own disk, each detached.
struct Disk {
    /// What is written from now on, and where that is prepared.
    root: OwnedFd,
    volumes: Vec<OwnedFd>,
}

/// Where the trees of its disk are taken from.
enum Kept {
    Host(Disk),
    /// A disk of its own, mounted nowhere yet.
    Image(OwnedFd),
}

/// Builds the sandbox's root on what was staged and makes it `/`.
///
/// Names in the sandbox's mountinfo: the overlay is assembled in a staging tmpfs with relative
/// paths, so it names no directory of the host.
pub(crate) fn build(
    stage: &Stage,
    ground: &Ground,
    plan: &Plan,
    userns: BorrowedFd<'_>,
) -> Result<()> {
    let (trees, volumes) = assemble(stage, ground, plan, userns)?;
    let made = stage.made()?;
    chdir("root").during(STAGE)?;
    fill(ground, plan, &trees, &volumes, &made)?;
    enter(stage)
}

/// The same for gVisor, which makes the last part of the root itself: what becomes `/` is what its program sees. Returns
/// that, open.
pub(crate) fn build_for(
    gvisor: &Gvisor,
    stage: &Stage,
    ground: &Ground,
    plan: &Plan,
    userns: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let program = stage.on_the_host(|| take(&gvisor.program, &PROGRAM, gvisor::BIND_RUNSC))?;
    let (trees, volumes) = assemble(stage, ground, plan, userns)?;
    gvisor::fill(stage, ground, plan, &trees, &volumes, &program)?;
    enter(stage)?;
    gvisor::open_program()
}

/// Puts the layers together, as `root` in the directory of the stage that is for that, and the working directory then.
/// Beside what was taken from the host, the trees of the volumes.
fn assemble(
    stage: &Stage,
    ground: &Ground,
    plan: &Plan,
    userns: BorrowedFd<'_>,
) -> Result<(Trees, Vec<OwnedFd>)> {
    let mapped = MountAttr {
        // Without ids of its own the host's are those seen inside.
        idmap: ground.has_own_ids().then_some(userns),
        ..GUARDED
    };
    let (trees, disk) = stage.on_the_host(|| {
        let trees = take_trees(plan, &mapped)?;
        let disk = match plan.image {
            true => Kept::Image(image::mounted(&plan.dir)?),
            false => Kept::Host(take_disk(plan, &plan.dir, &mapped)?),
        };
        Ok((trees, disk))
    })?;
    chdir(LAYERS).during(STAGE)?;
    let disk = match disk {
        Kept::Host(disk) => disk,
        Kept::Image(image) => own_disk(plan, &image, &mapped)?,
    };
    for name in ["lower", "rw", "root"] {
        fs::create_dir(name).during(STAGE)?;
    }
    attach(&trees.template, "lower").during(STAGE)?;
    attach(&disk.root, "rw").during(STAGE)?;
    for (layer, name) in trees.sealed.iter().zip(names(plan)) {
        fs::create_dir(&name).during(STAGE)?;
        attach(layer, &name).during(STAGE)?;
    }
    as_mapped_root(ground.id_base, || {
        overlay(ground, "root", &root_layers(plan))
    })?;
    let volumes = volumes(ground, plan, &disk)?;
    Ok((trees, volumes))
}

/// Everything in the new root, which is the working directory, that is a mount of its own.
fn fill(
    ground: &Ground,
    plan: &Plan,
    trees: &Trees,
    volumes: &[OwnedFd],
    made: &[OwnedFd],
) -> Result<()> {
    if let Some(usr) = &trees.usr {
        attach(usr, "usr").during(BIND_USR)?;
    }
    for (name, tree) in TREES.iter().zip(made) {
        attached::attach_at(ground, tree, name, "fill the root")?;
    }
    if let Some(programs) = &trees.programs {
        fs::create_dir(PROGRAMS).during(BIND_PROGRAMS)?;
        attach(programs, PROGRAMS).during(BIND_PROGRAMS)?;
    }
    for (volume, tree) in plan.volumes.iter().zip(volumes) {
        let target = volume.target.to_str().ok_or(rustix::io::Errno::INVAL);
        attached::attach_at(ground, tree, target.during(BIND_VOLUME)?, BIND_VOLUME)?;
    }
    attached::attach(ground, plan, &trees.attached)
}

/// What the sealed layers are called where the root is assembled.
fn names(plan: &Plan) -> impl Iterator<Item = String> {
    (0..plan.layers.len()).map(|n| format!("l{n}"))
}

/// The layers of one overlay, as overlayfs wants them named.
struct Layers {
    lower: String,
    upper: String,
    work: String,
}

fn root_layers(plan: &Plan) -> Layers {
    if plan.layers.is_empty() {
        return Layers {
            lower: "lower".to_owned(),
            upper: "rw/upper".to_owned(),
            work: "rw/work".to_owned(),
        };
    }
    let sealed: String = names(plan).map(|name| format!("{name}/root:")).collect();
    Layers {
        lower: format!("{sealed}lower"),
        upper: "rw/root/upper".to_owned(),
        work: "rw/root/work".to_owned(),
    }
}

/// Mounts them at `target`. What the upper layer says was written from inside: nothing in it leads to other names,
/// and the host's defaults, which its administrator may have changed, do not count.
fn overlay(ground: &Ground, target: &str, layers: &Layers) -> Result<()> {
    let Layers { lower, upper, work } = layers;
    let mut options = format!(
        "lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=nofollow,metacopy=off,index=off"
    );
    if !ground.has_own_ids() {
        // Who is root only in a user namespace may write no other attributes.
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::from)
        .during(OVERLAY)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", target, "overlay", flags, options.as_c_str()).during(OVERLAY)
}

/// The trees of the volumes, in their order. One that can be sealed lies on what was sealed of it.
fn volumes(ground: &Ground, plan: &Plan, disk: &Disk) -> Result<Vec<OwnedFd>> {
    const STEP: &str = "lay a volume on what was sealed";
    let mut all = Vec::with_capacity(plan.volumes.len());
    for (volume, plain) in plan.volumes.iter().zip(&disk.volumes) {
        let name = volume.source.display();
        let mut sealable = image::SEALED.iter();
        let has_layers = sealable.any(|(_, place)| volume.source == Path::new(place));
        if plan.layers.is_empty() || !has_layers {
            all.push(plain.try_clone().during(STEP)?);
            continue;
        }
        let sealed: Vec<String> = names(plan).map(|layer| format!("{layer}/{name}")).collect();
        let layers = Layers {
            lower: sealed.join(":"),
            upper: format!("rw/{name}"),
            work: format!("rw/works/{name}"),
        };
        let target = format!("volume-{name}");
        fs::create_dir(&target).during(STEP)?;
        as_mapped_root(ground.id_base, || overlay(ground, &target, &layers))?;
        all.push(take(Path::new(&target), &GUARDED, STEP)?);
    }
    Ok(all)
}

/// Of every mount alike.
pub(crate) const GUARDED: MountAttr<'static> = MountAttr {
    nosuid: true,
    nodev: true,
    private: true,
    read_only: false,
    noexec: false,
    recursive: false,
    idmap: None,
};

/// Of a program of the host's that only this sandbox's runtime executes.
const PROGRAM: MountAttr<'static> = MountAttr {
    read_only: true,
    ..GUARDED
};

fn take_trees(plan: &Plan, mapped: &MountAttr<'_>) -> Result<Trees> {
    let attached = plan.attached.iter().map(|volume| {
        let attr = MountAttr {
            read_only: volume.read_only,
            ..*mapped
        };
        take(&volume.source, &attr, IDMAP)
    });
    // The lowest layer is written by nobody; nodev and nosuid are asked of every mount alike.
    let template = MountAttr {
        read_only: true,
        ..*mapped
    };
    // Not id-mapped on purpose: the sandbox sees /usr as "other" and so reads only what is
    // readable for everybody on the host.
    let usr = MountAttr {
        read_only: true,
        recursive: true,
        ..GUARDED
    };
    let sealed = plan.layers.iter();
    let sealed = sealed.map(|layer| take(layer, &template, IDMAP));
    let programs = plan.programs.as_ref();
    let programs = programs.map(|dir| take(dir, &usr, BIND_PROGRAMS));
    let host = plan.usr.as_ref().map(|dir| take(dir, &usr, BIND_USR));
    Ok(Trees {
        programs: programs.transpose()?,
        template: take(&plan.template, &template, IDMAP)?,
        sealed: sealed.collect::<Result<_>>()?,
        usr: host.transpose()?,
        attached: attached.collect::<Result<_>>()?,
    })
}

/// What of a disk at `disk` the sandbox gets.
fn take_disk(plan: &Plan, disk: &Path, mapped: &MountAttr<'_>) -> Result<Disk> {
    let volumes = plan.volumes.iter().map(|volume| {
        let attr = MountAttr {
            read_only: volume.read_only,
            ..*mapped
        };
        take(&disk.join(&volume.source), &attr, IDMAP)
    });
    Ok(Disk {
        volumes: volumes.collect::<Result<_>>()?,
        // A volume that lies on layers is prepared beside it, in the same mount.
        root: if plan.layers.is_empty() {
            take(&disk.join("root"), mapped, IDMAP)?
        } else {
            take(disk, mapped, IDMAP)?
        },
    })
}

/// The same of an image: it is seen here and nowhere else.
fn own_disk(plan: &Plan, image: &OwnedFd, mapped: &MountAttr<'_>) -> Result<Disk> {
    let place = Path::new("disk");
    fs::create_dir(place).during(DISK)?;
    attach(image, place).during(DISK)?;
    image::fill(place)?;
    take_disk(plan, place, mapped)
}

/// A detached copy of the mount at `path` with `attr` set, so that it is never seen without it.
pub(crate) fn take(path: &Path, attr: &MountAttr<'_>, step: &'static str) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if attr.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags).during(step)?;
    mount_setattr(tree.as_fd(), attr).during(step)?;
    Ok(tree)
}

pub(crate) fn attach(tree: &OwnedFd, target: impl AsRef<Path>) -> rustix::io::Result<()> {
    move_mount(
        tree,
        c"",
        CWD,
        target.as_ref(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// Makes the working directory, which is what was built, the root of this mount namespace, above the empty one that it
/// was built in: there is no way up from it, since nobody comes to rest at a root that something is mounted on, and
/// nothing beneath it.
fn enter(stage: &Stage) -> Result<()> {
    const STEP: &str = "enter the new root";
    let beneath = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(".", beneath, Mode::empty()).during(STEP)?;
    let onto = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(CWD, ".", stage.top(), c"", onto).during(STEP)?;
    stage.clear().during(STEP)?;
    fchdir(&root).during(STEP)?;
    chroot(".").during(STEP)?;
    chdir("/").during(STEP)
}
